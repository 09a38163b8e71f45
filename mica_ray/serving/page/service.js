// Requests of the page to its service. A failed request throws a RequestError with a message for the person.

const KEY = 'mica.key'
const SESSIONS = 'v1/support/sessions'

export class RequestError extends Error {
  constructor(message, status, code) {
    super(message)
    this.status = status
    this.code = code
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? '',
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
}

/** The names of the models. */
export async function models() {
  const response = await send('v1/models')
  return (await response.json()).data.map((model) => model.id)
}

/** Yields the pieces of a reply: {lead} for a help line, {text} for the model's text. */
export async function* reply(model, messages, signal) {
  const response = await send('v1/chat/completions', { model, messages, stream: true }, signal)
  let leads = response.headers.has('x-mica-care')
  for await (const event of events(response)) {
    const text = event.choices?.[0]?.delta?.content
    if (!text) continue
    yield leads ? { lead: text } : { text }
    leads = false
  }
}

/**
 * Opens a session in which a judge estimates the state: {id, expires, axes, start}; null if the service has no
 * sessions. A session without estimates is closed at once, since the page stores the conversation itself.
 */
export async function openSession(model) {
  let opened
  try {
    opened = await (await send(SESSIONS, { model })).json()
  } catch (error) {
    if (error.status === 404 && error.code !== 'model_not_found') return null
    throw error
  }
  if (!opened.need) {
    await closeSession(opened.id)
    return null
  }
  const { axes, start } = opened.need
  return { id: opened.id, model, expires: opened.expires, axes, start: axes.map((axis) => start[axis.key]) }
}

/** Deletes a session of the service. */
export async function closeSession(id) {
  await send(`${SESSIONS}/${encodeURIComponent(id)}`, null, undefined, 'DELETE').catch(() => {})
}

/** Yields the pieces of a reply in a session, then {state}: a number per axis, null if the judge failed. */
export async function* replyIn(session, content, signal) {
  const response = await send(`${SESSIONS}/${encodeURIComponent(session.id)}/messages`, { content, stream: true }, signal)
  for await (const event of events(response)) {
    if (event.content) yield event.help_line ? { lead: event.content } : { text: event.content }
    const state = event.need?.state
    if (event.need) yield { state: state ? session.axes.map((axis) => state[axis.key]) : null }
  }
}

/** Sends the vote on two replies: 'left', 'right' or 'tie'. */
export async function vote(left, right, choice) {
  await send('v1/support/votes', { left, right, choice })
}

async function send(path, body, signal, method = body ? 'POST' : 'GET') {
  const headers = { 'content-type': 'application/json' }
  if (key.get()) headers.authorization = `Bearer ${key.get()}`
  const request = { method, body: body ? JSON.stringify(body) : undefined }
  let response
  try {
    response = await fetch(new URL(path, document.baseURI), { ...request, headers, signal, cache: 'no-store' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new RequestError('The service cannot be reached. Check your connection and try again.', 0)
  }
  if (!response.ok) throw await requestError(response)
  return response
}

async function requestError(response) {
  const { error } = await response.json().catch(() => ({}))
  if (response.status === 401) return new RequestError('This service needs a valid API key.', 401, error?.code)
  if (response.status === 429) {
    const seconds = response.headers.get('retry-after')
    return new RequestError(`The service is busy. Try again ${seconds ? `in ${seconds} s` : 'soon'}.`, 429, error?.code)
  }
  return new RequestError(error?.message ?? `The service answered with an error (${response.status}).`, response.status, error?.code)
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === 'AbortError') throw error
        throw new RequestError('The reply ended early. Try again.', 0)
      })
      if (done) throw new RequestError('The reply ended early. Try again.', 0)
      const parts = (rest + value).split(/\r?\n\r?\n/)
      rest = parts.pop()
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim()).join('\n')
        if (data === '[DONE]') return
        if (!data) continue
        const event = JSON.parse(data)
        if (event.error) throw new RequestError(event.error.message, 0, event.error.code)
        yield event
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}
