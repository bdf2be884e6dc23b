// Light or dark: the system's choice until the button is used. Colours live in page.css.

const NAMES = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const NEXT = { system: "light", light: "dark", dark: "system" };

const current = () => document.documentElement.dataset.theme ?? "system";

/** Wires the button; `changed` is called whenever colours are other ones than before. */
export function startTheme(button, changed) {
  const show = () => { button.textContent = NAMES[current()]; };
  button.addEventListener("click", () => {
    choose(NEXT[current()]);
    show();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("tsfm-theme", theme);
  } catch {
    // forgotten with the page, then
  }
}

/** A colour of page.css as the browser works it out in the present theme. */
export function colour(name, alpha = 1) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g);
  probe.remove();
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}
