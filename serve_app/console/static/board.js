// The board: the markets of a watch, the most unusual first; without a watch, an example that moves.

import { call } from "./api.js";
import { drawCards, filterCards, isOutside } from "./cards.js";
import { byId, h, span } from "./dom.js";
import { isOver, nextMinute, restart } from "./example.js";

const EVERY_MS = 5000;
const EXAMPLE = "an example";
const OF_EXAMPLE = "An example: the chance to win of each team of the World Cup of 2022, a minute every 5 s. Data: FiveThirtyEight, CC BY 4.0. Your own markets: tsfm watch --source polymarket";

/** Starts the board; `open` is called with the market that is chosen, `refused` with what needs a token. */
export function startBoard({ open, refused }) {
  let boards = [];
  let version = "";
  let shown = null;
  let stopped = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = 0;
  let asking = false;
  let refusedOnce = false; // it is not asked again before there is another token

  async function refresh() {
    clearTimeout(timer);
    if (asking || !isSeen()) return;
    asking = true;
    try {
      refusedOnce = false;
      await readBoards();
      const next = chosen() ?? (await example());
      if (next && next !== shown) draw(next);
      noteTime();
    } catch (error) {
      failed(error);
    }
    asking = false;
    if (isSeen() && !refusedOnce) timer = setTimeout(refresh, EVERY_MS);
  }

  async function readBoards() {
    const { body } = await call(`tsfm/board?known=${version}`);
    version = body.version;
    if (body.boards === null) return;
    boards = body.boards;
    const names = boards.length ? [...boards.map(({ watch }) => watch), EXAMPLE] : [];
    const before = byId("board-of").value;
    byId("board-of").replaceChildren(...names.map((name) => h("option", {}, name)));
    if (names.includes(before)) byId("board-of").value = before;
    byId("board-of-field").hidden = names.length === 0;
  }

  const chosen = () => boards.find(({ watch }) => watch === byId("board-of").value);

  /** The example's next minute; the one before while it is stopped. */
  async function example() {
    const isShown = shown?.watch === "";
    if (isShown && (stopped || isOver())) return shown;
    const next = await nextMinute();
    return isShown && stopped ? shown : next; // it was stopped meanwhile
  }

  function draw(next) {
    const began = performance.now();
    shown = next;
    drawCards(byId("cards"), next.markets, open);
    performance.measure("board", { start: began });
    byId("board-stop").hidden = next.watch !== "";
    drawStop();
    filter();
  }

  function filter() {
    const left = filterCards(byId("board-filter").value);
    const outside = shown.markets.filter(isOutside).length;
    const total = shown.markets.length;
    byId("board-empty").hidden = left > 0;
    byId("board-empty").textContent = total ? "No market has this in its name." : "The last cycle of this watch checked no market.";
    const text = `${outside} of ${total} markets outside their band${left < total ? `, ${left} shown` : ""}`;
    if (byId("board-summary").textContent !== text) byId("board-summary").textContent = text;
  }

  function noteTime() {
    if (!shown) return;
    const age = span(Math.max(0, (Date.now() - Date.parse(shown.checked_ts)) / 1000));
    byId("board-note").textContent = shown.watch === "" ? OF_EXAMPLE : `Checked ${age} ago by the watch ${shown.watch}.`;
  }

  function drawStop() {
    byId("board-stop").textContent = isOver() ? "Play again" : stopped ? "Play" : "Pause";
  }

  function failed(error) {
    refusedOnce = error.status === 401 || error.status === 403;
    if (error.status === 401) refused(error);
    byId("board-note").textContent = error.message;
    if (!shown) byId("board-empty").textContent = error.message;
  }

  byId("board-filter").addEventListener("input", () => shown && filter());
  byId("board-of").addEventListener("change", refresh);
  byId("board-stop").addEventListener("click", () => {
    if (isOver()) restart();
    else stopped = !stopped;
    drawStop();
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  return { refresh };
}

const isSeen = () => !document.hidden && !byId("board").hidden;
