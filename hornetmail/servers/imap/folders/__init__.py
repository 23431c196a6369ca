"""What is done to folders by name: listed, made, renamed, selected, limited."""
