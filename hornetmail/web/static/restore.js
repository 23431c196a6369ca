// How far a restore is. The service comes and goes meanwhile: what does not answer is asked again.

const lines = document.getElementById("lines");

async function look() {
  try {
    const answer = await fetch("restore/state", { cache: "no-store" });
    const state = await answer.json();
    lines.replaceChildren(...state.lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
    if (state.phase !== "running") {
      location.assign("restore");
      return;
    }
  } catch {
    // Between two doors.
  }
  setTimeout(look, 700);
}

setTimeout(look, 300);
