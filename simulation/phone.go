package simulation

import (
	"fmt"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// temper returns how a phone is about a message: "" if it answers well whenever it is on.
func (w *World) temper(m *message) Kind {
	t := w.dice.For("temper", m.n)
	if !t.Chance(w.Bad) {
		if m.own || !t.Chance(0.15) {
			return ""
		}
		return w.may(phoneSlow)
	}
	return w.may(pick(t, phoneDrops, phoneDrops, phoneUnacked, phoneRefuses, phoneLost, phoneLost, phoneLate, phoneTwice, phoneGarbage,
		phoneUnsealed, phoneGeneral))
}

// misses reports whether the server loses a request, which is the first one for its message. The
// message can be asked for again a few minutes later.
func (w *World) misses(b *bot, m *message) bool {
	if w.may(phoneMisses) == "" || !w.dice.For("misses", m.n).Chance(w.Bad/2) {
		return false
	}
	w.mu.Lock()
	key := askedFor{b.n, m.id}
	again := w.missed[key]
	w.missed[key] = true
	w.mu.Unlock()
	if !again {
		w.troubledFor(b, m, 5*time.Minute)
	}
	return !again
}

// answersWell reports whether a phone that is on gives a path of the file in time.
func (w *World) answersWell(m *message) bool {
	switch w.temper(m) {
	case "", phoneSlow, phoneTwice:
		return m.junk == "" && !m.envelope
	}
	return false
}

// backAt returns when a bot's phone is on again that is off at a time, or that time.
func (w *World) backAt(b *bot, at time.Time) time.Time {
	if w.may(phoneOff) == "" {
		return at
	}
	const off, back = 23 * time.Hour, 7 * time.Hour
	since := at.Sub(w.began)
	if w.Long {
		switch today := since.Truncate(day); {
		case since-today < back:
			return w.began.Add(today + back)
		case since-today >= off:
			return w.began.Add(today + day + back)
		}
		return at
	}
	const slot = 10 * time.Minute
	for n := since / slot; w.dice.For("off", b.n, int64(n)).Chance(0.08); n++ {
		at = w.began.Add((n + 1) * slot)
	}
	return at
}

// isOn reports whether a phone is on during some time.
func (w *World) isOn(b *bot, from, to time.Time) bool {
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		if !w.backAt(b, at).Equal(at) {
			return false
		}
	}
	return w.backAt(b, to).Equal(to)
}

// answer is the phone of a bot. It decides what is done about a request that names its message
// rightly.
func (w *World) answer(b *bot, r wabox.Request) []wabox.Answer {
	m := w.meant(r)
	now := time.Now()
	t := w.dice.For("answer", b.n, r.ID, b.account.RequestCount())
	wait := w.backAt(b, now).Sub(now)
	if wait > 0 {
		w.count(phoneOff)
		w.troubled(b, m)
	}
	after := func(d time.Duration) time.Duration { return wait + d }
	prompt := after(t.Between(w.Answers/2, 2*w.Answers))
	silent := []wabox.Answer{{None: true}}
	if m == nil || m.envelope {
		return silent
	}
	if m.junk != "" {
		return w.answerJunk(t, m, prompt)
	}
	if form := w.Form; form != "" && !m.chat.isGroup() && m.chat.hasBothNames() && string(r.Chat.Server) != serverOf(form) {
		w.count(phoneForm)
		return silent
	}
	if w.misses(b, m) {
		w.count(phoneMisses)
		return []wabox.Answer{{Ack: wabox.AckNone, None: true}}
	}
	temper := w.temper(m)
	w.count(temper)
	found := func(delay time.Duration) wabox.Answer {
		w.mu.Lock()
		path := w.box.Reupload(m.file.media)
		w.keep(m.file, path, true).at = now.Add(delay)
		w.mu.Unlock()
		return wabox.Answer{Result: wabox.Success, DirectPath: path, Delay: delay}
	}
	if temper != "" && temper != phoneSlow && temper != phoneTwice {
		w.troubled(b, m)
	}
	code := func(c string) *string { return &c }
	switch temper {
	case phoneDrops:
		return silent
	case phoneUnacked:
		return []wabox.Answer{{Ack: wabox.AckNone, None: true}}
	case phoneRefuses:
		return []wabox.Answer{{Ack: wabox.AckError("479"), None: true}}
	case phoneLost:
		w.refused(b, m, prompt)
		return []wabox.Answer{{Result: wabox.NotFound, Delay: prompt}}
	case phoneUnsealed:
		return []wabox.Answer{{ErrorCode: code("2"), Delay: prompt}}
	case phoneGeneral:
		return []wabox.Answer{{Result: wabox.GeneralError, Delay: prompt}}
	case phoneGarbage:
		return []wabox.Answer{{Garbage: true, Delay: prompt}}
	case phoneSlow:
		return []wabox.Answer{found(after(t.Between(w.timeout()/8, w.timeout()/2)))}
	case phoneLate:
		return []wabox.Answer{found(after(w.timeout() + t.Between(time.Second, 5*time.Minute)))}
	case phoneTwice:
		answer := found(prompt)
		answer.Repeat = 1 + t.IntN(2)
		return []wabox.Answer{answer}
	}
	return []wabox.Answer{found(prompt)}
}

// answerJunk is what a phone does about a message of which it has got no file, or what a stranger
// has made it say.
func (w *World) answerJunk(t *Throw, m *message, delay time.Duration) []wabox.Answer {
	switch t.IntN(6) {
	case 0, 1, 2:
		return []wabox.Answer{{None: true}}
	case 3:
		return []wabox.Answer{{Result: wabox.GeneralError, Delay: delay}}
	case 4:
		return []wabox.Answer{{Result: wabox.Success, DirectPath: w.otherPath(t), Delay: delay}}
	}
	return []wabox.Answer{{Result: wabox.NotFound, Delay: delay}}
}

// otherPath returns a path of some other file, or of none.
func (w *World) otherPath(t *Throw) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) == 0 || t.Chance(0.3) {
		return fmt.Sprintf("/v/t62.7118-24/%d_n.enc?ccb=11-4&oh=01_invented&oe=7FFFFFFF", t.Int64())
	}
	return w.files[t.IntN(len(w.files))].own.path
}

// meant returns the message that a request is about, or nil if there is none. Strangers use the ids
// and keys of others, so that chat and sender count too.
func (w *World) meant(r wabox.Request) *message {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found *message
	best := -1
	for _, m := range w.byID[r.ID] {
		if r.StanzaID == "" || !m.is(r.MediaKey) {
			continue // it is sealed with a key that the phone does not know
		}
		rank := 0
		if m.chat.jid == r.Chat || m.chat.has(r.Chat) {
			rank += 4
		}
		if r.Participant.User == "" || w.isSame(m.from, r.Participant) {
			rank += 2
		}
		if m.junk == "" {
			rank++
		}
		if rank > best {
			found, best = m, rank
		}
	}
	return found
}

func serverOf(form string) string {
	if form == "lid" {
		return "lid"
	}
	return "s.whatsapp.net"
}
