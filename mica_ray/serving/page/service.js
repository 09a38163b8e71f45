// What the page asks of the service that sent it. Each call throws a Refusal that says what to do.

const KEY = 'mica.key'

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

/** Tell the operator which of two replies was better: 'left', 'right' or 'tie'. */
export async function vote(left, right, choice) {
  await ask('v1/support/votes', { left, right, choice })
}

async function ask(path, body, signal) {
  const headers = { 'content-type': 'application/json' }
  if (key.get()) headers.authorization = `Bearer ${key.get()}`
  const request = body ? { method: 'POST', body: JSON.stringify(body) } : {}
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
