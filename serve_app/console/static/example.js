// The board's example: the matches in `matches.js` as if they were played now, a minute at each call.

import { call } from "./api.js";
import { MATCHES, MINUTES } from "./matches.js";

const FIRST_MINUTE = 42; // the model needs some history
const STEPS_AHEAD = 12;
const MINUTE_MS = 60000;

const GAMES = MATCHES.map((line) => {
  const [team, other, percent] = line.split(",");
  return { title: `${team} to beat ${other}`, id: `example-${team}-${other}`.replaceAll(" ", "-"), y: percent.split(" ").map((value) => Number(value) / 100) };
});

let minute = FIRST_MINUTE;

export const isOver = () => minute > MINUTES;
export const restart = () => { minute = FIRST_MINUTE; };

/** The board of the next minute: every game's prices, and the service's checks of the newest ones. */
export async function nextMinute() {
  const asOf = new Date(Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS).toISOString().replace(".000Z", "Z");
  const shown = GAMES.map(({ title, id, y }) => ({ title, id, y: y.slice(0, minute) }));
  const requests = shown.map(({ id, y }) => ({
    market_id: id, as_of_ts: asOf, freq: "1m", horizon_steps: STEPS_AHEAD, y, observe: false, // not to be learned from
  }));
  const { body } = await call("tsfm/check/batch", {
    method: "POST", body: JSON.stringify({ requests }), headers: { "content-type": "application/json" },
  }, 35000);
  minute += 1;
  const markets = shown.map(({ title, y }, i) => ({ title, y, newest_steps: 1, answer: body.results[i].ok }));
  return { watch: "", checked_ts: new Date().toISOString(), markets: markets.filter(({ answer }) => answer) };
}
