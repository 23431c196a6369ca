// Parts marked data-live are fetched again from the same page and put in place when they differ. Nothing that has the focus is touched.


function put(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (!other) {
      if (part.dataset.live.startsWith("domain-")) location.reload();
      continue;
    }
    const busy = part.contains(document.activeElement) || part.querySelector("dialog[open], input:checked");
    if (busy || part.isEqualNode(other)) continue;
    part.replaceWith(document.importNode(other, true));
  }
}

export function live(state) {
  const word = state.textContent;
  const away = state.dataset.away;
  const every = 1000 * (state.dataset.every || 2);
  const quiet = state.classList.contains("sr");
  async function turn() {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
        if (!answer.ok) throw new Error(String(answer.status));
        put(new DOMParser().parseFromString(await answer.text(), "text/html"));
        state.textContent = word;
        if (!quiet) state.className = "badge ok";
      } catch {
        state.textContent = away;
        if (!quiet) state.className = "badge bad";
      }
    }
    setTimeout(turn, every);
  }
  setTimeout(turn, every);
}
