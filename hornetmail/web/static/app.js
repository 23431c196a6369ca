// What HTML cannot do by itself: dialogs, live figures, theme, time zone. Every page works without it.

import { live } from "./live.js";
import { people } from "./people.js";

const root = document.documentElement;
const base = root.dataset.base;

function cookie(name, value) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  const age = value ? "; Max-Age=31536000" : "; Max-Age=0";
  document.cookie = `${name}=${encodeURIComponent(value)}; Path=${base}; SameSite=Lax${age}${secure}`;
}

cookie("zone", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-theme-form]")) {
    event.preventDefault();
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    cookie("theme", root.dataset.theme);
    return;
  }
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (form.method === "post" && !("keep" in form.dataset)) form.dataset.sent = "yes";
});

addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog) {
      event.preventDefault();
      dialog.showModal();
    }
    return;
  }
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
  if (event.target.matches("dialog")) event.target.close();
  const reveal = event.target.closest("[data-reveal]");
  if (reveal) {
    const field = document.getElementById(reveal.dataset.reveal);
    field.type = field.type === "password" ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(field.type === "text"));
  }
});

document.querySelectorAll("[data-reveal]").forEach((button) => { button.hidden = false; });

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    event.target.form.querySelectorAll(`input[name="${event.target.dataset.all}"]`).forEach((box) => { box.checked = event.target.checked; });
  }
  if (event.target.matches("[data-files]")) {
    const files = [...event.target.files];
    const size = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
    document.getElementById(event.target.dataset.files).textContent = files.length ? `${files.map((file) => file.name).join(", ")} (${size.toFixed(1)} MB)` : "";
  }
  if (event.target.matches("select[data-go]")) event.target.form.requestSubmit();
  const form = event.target.form;
  if (form && form.querySelector("[data-needs]")) mark(form);
});

function mark(form) {
  form.querySelectorAll("[data-needs]").forEach((button) => {
    button.disabled = !form.querySelector(`input[name="${button.dataset.needs}"]:checked`);
  });
}
document.querySelectorAll("form").forEach((form) => { if (form.querySelector("[data-needs]")) mark(form); });

if (document.querySelector("[data-live-state]")) live(document.querySelector("[data-live-state]"));

document.querySelectorAll("[data-people]").forEach(people);
