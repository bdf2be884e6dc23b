// The token field: shown when a token is needed or wanted, kept for this tab alone.

import { token } from "./api.js";
import { byId } from "./dom.js";

/** Wires the panel; `changed` is called with a new token, or without one. */
export function startTokens(changed) {
  byId("token-open").addEventListener("click", () => openTokens("", byId("token-panel").hidden));
  byId("token-panel").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = byId("token").value.trim();
    if (!given) return openTokens("Paste a token first.");
    token.set(given);
    byId("token").value = "";
    openTokens("", false);
    return changed();
  });
  byId("token-forget").addEventListener("click", () => {
    token.forget();
    openTokens("", false);
    changed();
  });
}

/** Shows or hides the panel, with the service's own words where there are such. */
export function openTokens(message, open = true) {
  byId("token-panel").hidden = !open;
  byId("token-open").setAttribute("aria-expanded", String(open));
  byId("token-error").textContent = message;
  if (open) byId("token").focus();
}
