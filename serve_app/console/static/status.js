// The status section: asks every few seconds while somebody can see it, and says when nobody answers.

import { call } from "./api.js";
import { byId, h } from "./dom.js";
import { drawCharts, drawStatus, tick } from "./status_view.js";

const EVERY_MS = 5000;
const LIMIT_MS = 4000;

/** Starts asking; `told` gets each report, `refresh` asks at once, `redraw` draws the charts again. */
export function startStatus(told) {
  let last = null;
  let timer = 0;

  async function refresh() {
    clearTimeout(timer);
    try {
      last = (await call("tsfm/status", {}, LIMIT_MS)).body;
      drawStatus(byId("status-body"), last);
      note(`Updated ${new Date().toLocaleTimeString([], { hour12: false })}, every ${EVERY_MS / 1000} s`);
      health("ok", "In service");
      told(last);
      await redraw();
    } catch (error) {
      failed(error, last);
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
  }

  async function redraw() { // a chart in a hidden place would have no width
    if (last && !byId("status-view").hidden) await drawCharts(byId("status-body"), last);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });
  setInterval(() => {
    if (!document.hidden) tick(byId("status-body"));
  }, 1000);
  refresh();
  return { refresh, redraw };
}

function failed(error, last) {
  if (error.status === undefined) return note(error.message); // charts that could not be loaded
  byId("status-body").classList.toggle("old", last !== null);
  if (error.status === 401 || error.status === 403) {
    health("unknown", "Token needed");
    return note(error.message);
  }
  if (error.status === 404) {
    health("ok", "In service");
    return note("This service does not report its status.");
  }
  health("down", error.status === 0 ? "Not reachable" : "Trouble");
  if (last === null) byId("status-body").replaceChildren(h("p", { class: "card" }, "Nothing has been heard of the service yet."));
  return note(error.status === 0 ? `Not reachable; asking again every ${EVERY_MS / 1000} s` : error.message);
}

function note(text) {
  byId("status-note").textContent = text;
}

/** The word in the head of the page; announced only when it changes. */
function health(state, text) {
  const pill = byId("health");
  pill.dataset.state = state;
  if (pill.textContent !== text) pill.textContent = text;
}
