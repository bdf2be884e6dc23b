// The API page: Swagger UI over the service's own document, with the token of this tab.

import { call, token } from "./api.js";
import { byId } from "./dom.js";
import { startTheme } from "./theme.js";
import { openTokens, startTokens } from "./tokens.js";

async function draw() {
  try {
    const { body } = await call("openapi.json");
    globalThis.SwaggerUIBundle({
      spec: body,
      dom_id: "#api",
      deepLinking: true,
      validatorUrl: null, // would send the document elsewhere
      displayRequestDuration: true,
      tryItOutEnabled: true,
      defaultModelsExpandDepth: 0,
      requestInterceptor: withToken,
    });
    byId("announce").hidden = true;
  } catch (error) {
    byId("announce").textContent = error.message;
    if (error.status === 401) openTokens(error.message);
  }
}

function withToken(request) {
  if (token.get()) request.headers.Authorization ??= `Bearer ${token.get()}`;
  return request;
}

/** Swagger UI has colours of its own, and a class for the dark ones. */
function follow() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.classList.toggle("dark-mode", dark);
}

startTheme(byId("theme"), follow);
startTokens(draw);
follow();
await draw();
