// What a page must have for everybody: a name for each control, one first heading, no id twice, text that stands out from its ground (WCAG 2.1: 1.3.1, 1.4.3, 2.4.6, 4.1.2).
() => {
  const faults = [];
  const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && node.getBoundingClientRect().width > 1;
  const text = (node) => (node?.textContent ?? "").trim();
  const named = (node) =>
    node.getAttribute("aria-label") || text(node) || node.getAttribute("title") || [...(node.labels ?? [])].map(text).join("") ||
    text(document.getElementById(node.getAttribute("aria-labelledby"))) || [...node.querySelectorAll("img[alt]")].map((one) => one.alt).join("");
  for (const node of document.querySelectorAll("a[href], button, summary")) if (!named(node)) faults.push(`no name: ${node.outerHTML.slice(0, 120)}`);
  for (const node of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    const labels = node.getAttribute("aria-label") || [...node.labels].map(text).join("");
    if (!labels && node.getAttribute("aria-hidden") !== "true") faults.push(`no label: ${node.outerHTML.slice(0, 120)}`);
  }
  for (const node of document.querySelectorAll("th, dialog[aria-labelledby] h2, iframe")) if (!text(node) && !node.title && !node.querySelector("input, button")) faults.push(`empty: ${node.outerHTML.slice(0, 120)}`);
  const first = document.querySelectorAll("h1").length;
  if (first !== 1) faults.push(`${first} first headings`);
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`id twice: ${id}`);
  for (const node of document.querySelectorAll("[data-dialog]")) if (!document.getElementById(node.dataset.dialog)) faults.push(`no dialog ${node.dataset.dialog}`);

  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const onto = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (pixel) => {
    const [r, g, b] = pixel.slice(0, 3).map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!text(walker.currentNode) || !shown(node) || node.closest("script, [disabled], [aria-disabled], option, .sr, .skip, svg")) continue;
    const grounds = [];
    for (let at = node; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(node);
    const [dark, bright] = [light(onto(["white", ...grounds])), light(onto(["white", ...grounds, style.color]))].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.45)) faults.push(`contrast ${ratio.toFixed(2)}: ${text(walker.currentNode).slice(0, 60)} (${node.className || node.tagName})`);
  }
  return [...new Set(faults)];
}
