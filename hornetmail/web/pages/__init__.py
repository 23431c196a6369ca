"""The pages, a module each area; every one lists its routes and sees only visits and answers."""
