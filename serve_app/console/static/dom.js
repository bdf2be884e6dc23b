// Elements in one expression. Text is always text: nothing of an answer is read as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners; null and false are left out) and children. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

/** A table with a caption; cells may be text or elements, the first of each row is its header. */
export function table(caption, heads, rows) {
  return h("table", {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, rows.map(([first, ...rest]) =>
      h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))))));
}

export const percent = (share, digits = 0) =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`;

export const millis = (ms) =>
  ms === null || ms === undefined ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** Seconds as a person says them. */
export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Buttons of which one is pressed: `options` are `[value, text]`. */
export function choices(place, options, chosen, pick) {
  place.replaceChildren(...options.map(([value, text]) => h("button", {
    type: "button", class: "quiet", "aria-pressed": String(value === chosen),
    click: ({ currentTarget }) => {
      for (const one of place.children) one.setAttribute("aria-pressed", String(one === currentTarget));
      pick(value);
    },
  }, text)));
}
