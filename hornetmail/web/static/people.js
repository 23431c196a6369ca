// People as they are typed, from the archive that one may see: fields with data-people ask that address and fill their list.

const REST = 200; // milliseconds without a key before anybody is asked

export function people(field) {
  const list = document.getElementById(field.getAttribute("list"));
  let timer = 0;
  let asked = "";
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const text = field.value.trim();
      if (text.length < 2 || text === asked) return;
      asked = text;
      try {
        const address = new URL(field.dataset.people, location.href);
        address.searchParams.set("text", text);
        const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "manual" });
        if (!answer.ok || text !== asked) return;
        list.replaceChildren(...(await answer.json()).map((name) => Object.assign(document.createElement("option"), { value: name })));
      } catch {
        // Without suggestions people type on.
      }
    }, REST);
  });
}
