// The conversation, stored in this tab's sessionStorage so that a reload loses nothing. No network here.

const STORAGE_KEY = 'mica.conversation'

/**
 * A turn: {said, replies: [{model, lead, text, status, error}], taken, choice, state}.
 * status: 'streaming', 'done', 'stopped' or 'failed'; taken: index of the reply that continues the conversation;
 * choice: 'left', 'right', 'tie' or null; state: one number per axis, null if the judge returned none, absent
 * outside of a session. session: {id, model, expires, axes, start} of a session with estimates, or null.
 */
export class Conversation {
  turns = []
  session = null

  static restored() {
    const conversation = new Conversation()
    try {
      const kept = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? '{}')
      Object.assign(conversation, { turns: kept.turns ?? [], session: kept.session ?? null })
    } catch {
      sessionStorage.removeItem(STORAGE_KEY)
    }
    for (const reply of conversation.turns.flatMap((turn) => turn.replies)) {
      if (reply.status === 'streaming') Object.assign(reply, { status: 'stopped', error: 'Cut off by the reload.' })
    }
    return conversation
  }

  keep() {
    const { turns, session } = this
    try {
      sessionStorage.setItem(STORAGE_KEY, JSON.stringify({ turns, session }))
    } catch {
      // The tab's storage is full: the conversation continues, and a reload loses its newest part.
    }
  }

  clear() {
    Object.assign(this, { turns: [], session: null })
    sessionStorage.removeItem(STORAGE_KEY)
  }

  /** The messages for the models, up to the message of the turn `last`, without help lines. */
  messages(last) {
    const upTo = this.turns.indexOf(last)
    return this.turns.slice(0, upTo + 1).flatMap((turn) => {
      const said = { role: 'user', content: turn.said }
      const text = turn === last ? '' : turn.replies[turn.taken]?.text
      return text ? [said, { role: 'assistant', content: text }] : [said]
    })
  }

  /** Whether the session has every turn before the last one. */
  get isInSession() {
    const earlier = this.turns.slice(0, -1).filter((turn) => turn.replies.some((reply) => reply.text))
    return earlier.every((turn) => 'state' in turn)
  }

  /** The states from the start on; a turn whose judgement failed repeats the state before it. */
  get path() {
    if (!this.session) return []
    const path = [this.session.start]
    for (const turn of this.turns) {
      if ('state' in turn) path.push(turn.state ?? path.at(-1))
    }
    return path
  }
}
