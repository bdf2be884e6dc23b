// Every call to the service: relative addresses, the token of this tab, errors as one kind of value.

const TOKEN = "tsfm-token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** What went wrong: the service's own words, or why there were none. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.detail = error.detail ?? [];
    this.requestId = error.request_id;
  }
}

export const unreachable = () => new ApiError(0, {
  code: "unreachable",
  message: "The service cannot be reached. Nothing you typed is lost: try again in a moment.",
});

/** `{body, headers, tookMs}` of a call that was answered with 200; throws ApiError otherwise. */
export async function call(path, request = {}, limitMs = 15000) {
  const began = performance.now();
  const response = await send(path, request, limitMs);
  const text = await response.text().catch(() => { throw unreachable(); });
  const body = parsed(text);
  if (!response.ok || body === null) throw refusal(response, body);
  return { body, headers: response.headers, tookMs: performance.now() - began };
}

async function send(path, request, limitMs) {
  const headers = { ...request.headers };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  try {
    return await fetch(path, {
      ...request, headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(limitMs),
    });
  } catch {
    throw unreachable();
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusal(response, body) {
  const said = body?.error;
  return new ApiError(response.status, said ?? {
    code: "no_answer",
    message: `The service did not answer as it should (status ${response.status}); try again in a moment.`,
  });
}
