// What of the form stands in the address, so that a forecast of a sample can be shared; the series does not.

import { byId } from "./dom.js";
import { SAMPLES } from "./samples.js";

const NAMES = ["sample", "market", "model", "horizon", "levels"];

export const FIRST_SAMPLE = SAMPLES[0].id;
export const readState = (name) => new URLSearchParams(location.search).get(name) ?? "";

/** Writes what differs from the usual into the address. */
export function writeState({ model, horizon, levels }) {
  const usual = { sample: FIRST_SAMPLE, model, horizon: String(horizon), levels: levels.join(", ") };
  const state = new URLSearchParams();
  for (const name of NAMES) {
    const value = byId(name).value.trim();
    if (value !== "" && value !== usual[name]) state.set(name, value);
  }
  const text = state.toString().replaceAll("%2C", ",").replaceAll(",+", ",");
  history.replaceState(null, "", `${location.pathname}${text && `?${text}`}${location.hash || "#forecast"}`);
}
