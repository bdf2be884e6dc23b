// The markets of the board: a card with a small fan chart for each, the most unusual first.

import { h } from "./dom.js";
import { pathOf } from "./fan.js";

const PAST_STEPS = 48;
const [WIDTH, HEIGHT] = [100, 40]; // of the chart's own coordinates; it is stretched to the card
const LEAST_RANGE = 0.02; // so that a market that stands still is a line, not noise
const SVG = "http://www.w3.org/2000/svg";
const SIGNS = { above: "▲", below: "▼", none: "" };

const cards = new Map(); // by market id

/** Shows these markets in the list; `open` is called with the one that is chosen. */
export function drawCards(list, markets, open) {
  const found = [...markets].sort(bySurprise).map((market) => {
    const id = market.answer.market_id;
    if (!cards.has(id)) cards.set(id, newCard(id, open));
    return fill(cards.get(id), market);
  });
  const ids = new Set(markets.map(({ answer }) => answer.market_id));
  for (const id of [...cards.keys()]) if (!ids.has(id)) cards.delete(id);
  const elements = found.map(({ element }) => element);
  const isNew = elements.length !== list.childElementCount || elements.some((one) => one.parentElement !== list);
  // Cards keep their places while one of them is pointed at: it would move away under the hand.
  if (isNew || !list.matches(":hover, :focus-within")) list.replaceChildren(...elements);
}

/** Hides the cards whose name does not hold the text; returns how many are left. */
export function filterCards(text) {
  const wanted = text.trim().toLowerCase();
  let left = 0;
  for (const { element, market } of cards.values()) {
    element.hidden = !`${market.title ?? ""} ${market.answer.market_id}`.toLowerCase().includes(wanted);
    if (!element.hidden) left += 1;
  }
  return left;
}

/** The p-value; where none is known yet, a rough one: a fifth is outside, and each width beyond it is five times as rare. */
const surprise = ({ answer: { check } }) => check?.p_value?.value ?? (check && check.breach !== "none" ? 0.2 / 5 ** check.beyond_widths : 1);

/** Outside of the band comes first, then the least likely. */
const bySurprise = (a, b) => Number(isOutside(b)) - Number(isOutside(a)) || surprise(a) - surprise(b);

export const isOutside = ({ answer: { check } }) => Boolean(check) && check.breach !== "none";

function newCard(id, open) {
  const paths = ["area", "middle", "price", "newest"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    return path;
  });
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" })) svg.setAttribute(name, value);
  svg.append(...paths);
  const [name, price, state, source] = ["name", "value", "what", "source"].map((part) => h("span", { class: part }));
  const link = h("a", { href: "#forecast", class: "card" }, name, price, svg, state, source);
  const card = { element: h("li", { class: "market" }, link), paths, name, price, state, source, market: null };
  link.addEventListener("click", (event) => {
    event.preventDefault();
    open(card.market);
  });
  return card;
}

function fill(card, market) {
  const { answer } = market;
  card.market = market;
  card.element.dataset.breach = answer.check?.breach ?? "none";
  card.name.textContent = card.name.title = market.title?.trim() || answer.market_id;
  card.price.textContent = percentOf(market.y.at(-1));
  card.state.textContent = stateOf(answer.check);
  card.source.textContent = answer.meta.runtime === "baseline" ? "by the baseline" : "";
  const drawn = shapes(market);
  card.paths.forEach((path, i) => path.setAttribute("d", drawn[i]));
  return card;
}

const percentOf = (price) => (price === null ? "–" : `${(100 * price).toFixed(price > 0 && price < 0.01 ? 2 : 1)} %`);

/** What the check says, in words. */
function stateOf(check) {
  if (!check) return "not checked";
  if (check.price === null) return "no price in the newest step";
  const chance = check.p_value ? `, p ${check.p_value.value.toFixed(3)}` : "";
  if (check.breach === "none") return `inside its band${chance}`;
  const steps = check.run_steps === 1 ? "" : `, ${check.run_steps} steps`;
  const widths = check.beyond_widths < 0.1 ? "under 0.1" : check.beyond_widths.toFixed(1);
  return `${SIGNS[check.breach]} ${check.breach} its band by ${widths} widths${steps}${chance}`;
}

/** The four paths of a chart: the band, its middle, the prices, and the newest price as a dot. */
function shapes({ y, newest_steps: newest, answer }) {
  const { quantiles: levels, yhat_q: paths } = answer;
  const [low, middle, high] = [0, levels.length >> 1, levels.length - 1].map((i) => pathOf(paths, levels[i]));
  const past = y.slice(-PAST_STEPS - newest);
  const known = past.length - newest; // steps before the forecast begins
  const last = Math.max(1, known + low.length - 1);
  const values = [...past.filter((price) => price !== null), ...low, ...high];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const [range, base] = [Math.max(most - least, LEAST_RANGE), (most + least) / 2];
  const at = (i, price) => `${((WIDTH * i) / last).toFixed(1)} ${(HEIGHT * (0.5 - (0.9 * (price - base)) / range)).toFixed(1)}`;
  const line = (path, from) => path.map((price, i) => at(from + i, price));
  const newestAt = past.at(-1) === null ? "" : `M${at(past.length - 1, past.at(-1))}h0.01`;
  return [
    `M${[...line(high, known), ...line(low, known).reverse()].join("L")}Z`,
    `M${line(middle, known).join("L")}`,
    withGaps(past, at),
    newestAt,
  ];
}

/** A path that is broken where a price is missing. */
function withGaps(past, at) {
  let open = false;
  return past.map((price, i) => {
    const pen = open ? "L" : "M";
    open = price !== null;
    return open ? pen + at(i, price) : "";
  }).join("");
}
