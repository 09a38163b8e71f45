// What the page asks of the service that sent it. Each call throws a Refusal that says what to do.

const KEY = 'mica.key'
const SESSIONS = 'v1/support/sessions'

export class Refusal extends Error {
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
  const answer = await ask('v1/models')
  return (await answer.json()).data.map((model) => model.id)
}

/** The pieces of a reply: {lead} for a help line, {text} for the model's own. */
export async function* reply(model, messages, signal) {
  const answer = await ask('v1/chat/completions', { model, messages, stream: true }, signal)
  let leads = answer.headers.has('x-mica-care')
  for await (const event of events(answer)) {
    const text = event.choices?.[0]?.delta?.content
    if (!text) continue
    yield leads ? { lead: text } : { text }
    leads = false
  }
}

/**
 * Begin a session in which a judge estimates the state: {id, expires, axes, start}; null where the service has
 * none. One without estimates is ended at once: this page keeps what was said by itself.
 */
export async function openSession(model) {
  let opened
  try {
    opened = await (await ask(SESSIONS, { model })).json()
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

/** Have the service forget a session. */
export async function closeSession(id) {
  await ask(`${SESSIONS}/${encodeURIComponent(id)}`, null, undefined, 'DELETE').catch(() => {})
}

/** The pieces of a reply within a session, and last {state}: a number per axis, null where the judge failed. */
export async function* replyIn(session, content, signal) {
  const answer = await ask(`${SESSIONS}/${encodeURIComponent(session.id)}/messages`, { content, stream: true }, signal)
  for await (const event of events(answer)) {
    if (event.content) yield event.help_line ? { lead: event.content } : { text: event.content }
    const state = event.need?.state
    if (event.need) yield { state: state ? session.axes.map((axis) => state[axis.key]) : null }
  }
}

/** Tell the operator which of two replies was better: 'left', 'right' or 'tie'. */
export async function vote(left, right, choice) {
  await ask('v1/support/votes', { left, right, choice })
}

async function ask(path, body, signal, method = body ? 'POST' : 'GET') {
  const headers = { 'content-type': 'application/json' }
  if (key.get()) headers.authorization = `Bearer ${key.get()}`
  const request = { method, body: body ? JSON.stringify(body) : undefined }
  let answer
  try {
    answer = await fetch(new URL(path, document.baseURI), { ...request, headers, signal, cache: 'no-store' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Refusal('The service cannot be reached.', 0)
  }
  if (!answer.ok) throw await refusal(answer)
  return answer
}

async function refusal(answer) {
  const { error } = await answer.json().catch(() => ({}))
  if (answer.status === 401) return new Refusal('This service asks for an API key.', 401, error?.code)
  if (answer.status === 429) {
    const seconds = answer.headers.get('retry-after')
    return new Refusal(`The service is busy; try again ${seconds ? `in ${seconds} s` : 'soon'}.`, 429, error?.code)
  }
  return new Refusal(error?.message ?? `The service answered with an error (${answer.status}).`, answer.status, error?.code)
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === 'AbortError') throw error
        throw new Refusal('The reply broke off.', 0)
      })
      if (done) throw new Refusal('The reply broke off.', 0)
      const parts = (rest + value).split(/\r?\n\r?\n/)
      rest = parts.pop()
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim()).join('\n')
        if (data === '[DONE]') return
        if (!data) continue
        const event = JSON.parse(data)
        if (event.error) throw new Refusal(event.error.message, 0, event.error.code)
        yield event
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}
