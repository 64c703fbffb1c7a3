package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A Violation is something that has happened and must not.
type Violation struct {
	Rule  string // by name, see README.md
	What  string // is wrong, in words
	Facts []string
	Err   error `json:"-"`
	Cause string
	At    time.Duration // since the world began
	Step  int

	file *file // that it is about, or nil
}

// violate notes a violation. The world ends with the first.
func (w *World) violate(v Violation) {
	v.At, v.Step = time.Since(w.began), int(w.step.Load())
	if v.Err != nil {
		v.What += ": " + v.Err.Error()
		v.Cause = reupload.Label(reupload.Cause(v.Err))
	}
	w.note("VIOLATION of %s: %s %v", v.Rule, v.What, v.Facts)
	w.reportMu.Lock()
	defer w.reportMu.Unlock()
	if w.report.Failed() == nil {
		w.report.Trace = w.trace.last()
		if !w.Limits.GoOn {
			w.end()
		}
	}
	w.report.add(v)
}

// judge checks the end of a download.
func (b *bot) judge(d *download, data []byte, err, ctxErr error) {
	took := time.Since(d.began)
	b.mu.Lock()
	b.running--
	healthy := d.lives(d.began) && d.lives(time.Now()) && d.hasRightKey()
	excuse := d.excuse()
	candidates := d.candidates()
	facts := d.facts()
	faulty := slices.ContainsFunc(d.exchanges, func(e exchange) bool { return e.path == bare(d.path) && e.fault != "" })
	told := d.tell()
	wasFine := d.lives(d.began)
	b.stays(d, err, faulty)
	if err == nil && d.file != nil && d.healed() {
		b.healed[string(d.message.media.FileEncSHA256)] = time.Now()
		b.answered[d.chat] = true
	}
	b.mu.Unlock()
	label := labelOf(d, err)
	b.count(label)
	b.note("%v: %s after %v; %s [%s] %v", d, label, took.Round(time.Millisecond), told, excuse, reupload.Cause(err))
	if b.ending() {
		return
	}
	violate := func(rule, what string) {
		b.violate(Violation{Rule: rule, Err: err, Facts: facts, file: d.file, What: fmt.Sprintf("%v: %s, after %v:%s", d, what, took.Round(time.Millisecond), told)})
	}
	if err == nil && d.hasRightKey() && !bytes.Equal(data, d.file.media.Plaintext) {
		violate("right-bytes", "other bytes came")
	}
	patience := orDefault(d.patience, longestPatience)
	if took > patience+3*time.Second {
		violate("context", "the call has outlived its context")
	}
	if d.inHandler && took > b.handlerTimeout()+4*time.Second && !faulty && b.Index != indexSlow {
		violate("handler", "the handler was held")
	}
	if err != nil && healthy && !faulty && ctxErr != context.Canceled && patience > 2*time.Second {
		violate("no-worse", "the file is where the caller looks for it")
	}
	b.judgeCause(d, err, ctxErr, candidates, violate)
	if wasFine || d.exchangesFine() {
		return
	}
	if excuse == "" && b.isToTryAgain(d, errors.Is(reupload.Cause(err), reupload.ErrPhoneSilent)) {
		excuse = "phone silent for a moment"
	}
	switch {
	case excuse != "":
		b.count("excused:" + Kind(excuse))
	default:
		b.count("owed")
		if err != nil {
			violate(d.healRule(), "it must heal")
		} else if took > b.bound() {
			violate(d.healRule(), "it took too long")
		}
	}
	b.look("the error of a download", reupload.Cause(err))
}

// exchangesFine reports whether the CDN served the file under the caller's path after all.
func (d *download) exchangesFine() bool {
	return slices.ContainsFunc(d.exchanges, func(e exchange) bool { return e.path == bare(d.path) && e.status == 200 && !d.stripped })
}

// hasRightKey reports whether the caller's key decrypts the file.
func (d *download) hasRightKey() bool {
	return d.file != nil && bytes.Equal(d.message.media.MediaKey, d.file.media.MediaKey)
}

func (d *download) healRule() string {
	if d.bot.junk.Load() {
		return "junk"
	}
	return "heals"
}

// judgeCause checks the cause of a download that was not healed.
func (b *bot) judgeCause(d *download, err, ctxErr error, candidates int, violate func(rule, what string)) {
	cause := reupload.Cause(err)
	if err == nil || cause == nil {
		return
	}
	if reupload.Label(cause) == "other" {
		violate("cause", "the cause is none that is documented")
	}
	final := errors.Is(cause, reupload.ErrNotFound) || errors.Is(cause, reupload.ErrDecryption)
	if final && candidates > 0 && d.junk == "" {
		violate("final", "it is not final: the phone has the file")
	}
	if ctxErr != nil && errors.Is(cause, reupload.ErrUnknownMessage) && d.mail.memory == d.memory {
		violate("cause", "the context has ended, and that is not the cause")
	}
}

// isToTryAgain reports whether a download may fail because the phone counts as silent: strangers'
// junk can bring that about too. A bot that tries again after a minute, twice, is let
// through.
func (b *bot) isToTryAgain(d *download, phoneSilent bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.file == nil {
		return false
	}
	if !phoneSilent {
		delete(b.silenced, d.file)
		return false
	}
	s := b.silenced[d.file]
	if now := time.Now(); s.tries == 0 || now.Sub(s.last) >= time.Minute {
		s.tries, s.last = s.tries+1, now
	}
	if b.silenced == nil {
		b.silenced = make(map[*file]silenced)
	}
	b.silenced[d.file] = s
	return s.tries <= 2
}

// silenced is how often in a row, a minute apart, a file was not asked for because the phone
// counted as silent.
type silenced struct {
	tries int
	last  time.Time
}

// excuse says why a download need not heal; "" if it must. It needs w.mu.
func (d *download) excuse() string {
	b, now := d.bot, time.Now()
	legit, _ := b.lately(16)
	switch {
	case d.file == nil || d.message.junk != "":
		return "junk"
	case d.chat.kind == newsletter:
		return "newsletter"
	case d.inHandler:
		return "handler"
	case d.unnoticed:
		return "media client"
	case d.silent:
		return "not asked"
	case b.asks && !d.named && !d.row: // from the second file on
		return "left to the bot"
	case d.backfill:
		return "backfill"
	case d.patience > 0 && d.patience < b.bound():
		return "impatient"
	case b.life != d.life:
		return "restarted"
	case b.disturbed.After(d.began.Add(-time.Minute)):
		return "disturbed"
	case !b.isOn(b, d.began, now):
		return "phone off"
	case d.silences >= 3 || b.silences >= 3 || legit >= 3:
		return "phone silent"
	case d.running > b.maxInFlight()/2:
		return "crowded"
	case b.hasAskedForFile(d) >= 4: // as many as a download asks for; eight in an hour
		return "many messages"
	case b.asksAlike(d):
		return "named wrongly by the bot"
	case d.began.Sub(b.ownAsks[askedFor{b.n, d.id}]) < 25*time.Hour: // and may have named it wrongly
		return "the bot has asked"
	case b.Form != "" && !d.chat.isGroup() && b.leavesOpen(d):
		return "second form held back"
	case b.Form != "" && (d.mail.how == "table" || d.mail.how == "history"): // the person may never have written, so that the client knows one name
		return "unknown name"
	case d.chat.kind == status && now.Sub(d.at) > 23*time.Hour:
		return "status gone"
	case now.Sub(d.chat.migrated) < time.Hour+time.Minute: // within a minute the server's word is old, and a wrong name paused for an hour
		return "just migrated"
	}
	if b.faulty[d.file].After(d.began) { // for this download, or for another with which it shares what is tried
		return "CDN"
	}
	if d.candidates() == 0 {
		return "unknown"
	}
	return ""
}

// hasAskedForFile returns for how many messages with its file the phone was asked in the hour
// before a download's end, and did not answer well. It needs w.mu.
func (b *bot) hasAskedForFile(d *download) int {
	hash := string(d.message.media.FileEncSHA256)
	type asking struct {
		id       types.MessageID
		chat, of types.JID
		message  *message
	}
	asked := make(map[asking]bool)
	for _, r := range slices.Backward(b.receipts) {
		if time.Since(r.at) > time.Hour {
			break
		}
		isCard := r.message == nil && strings.HasPrefix(r.id, cardPrefix) && b.carded[hash]
		isQuote := r.message == nil && slices.ContainsFunc(b.byID[r.id], func(m *message) bool { return string(m.media.FileEncSHA256) == hash })
		if isCard || isQuote || r.message != nil && string(r.message.media.FileEncSHA256) == hash {
			asked[asking{r.id, r.chat, r.participant, r.message}] = true
		}
	}
	return len(asked)
}

// asksAlike reports whether, for a download or just before, the phone was asked for the file under
// a name that only the bot can have given: an edit's own id, or what a Lookup has that is wrong.
// The phone does not answer, and may be off. It needs w.mu.
func (b *bot) asksAlike(d *download) bool {
	for _, r := range slices.Backward(b.receipts) {
		if r.at.Before(d.began.Add(-b.timeout())) {
			break
		}
		if r.message != nil && r.message.envelope && r.message.file == d.file {
			return true
		}
		if b.Lookup == lookupMany && strings.HasPrefix(r.id, inventedRow) {
			return true
		}
		for _, m := range b.byID[types.MessageID(strings.TrimSuffix(r.id, "X"))] {
			if r.message == nil && strings.HasSuffix(r.id, "X") && m.file == d.file {
				return true
			}
		}
	}
	return false
}

// leavesOpen reports whether the last request before a download had no answer, so that a second
// form is held back. It needs w.mu.
func (b *bot) leavesOpen(d *download) bool {
	if d.receipts == 0 || d.receipts > len(b.receipts) {
		return false
	}
	m := b.receipts[d.receipts-1].message
	return m == nil || m.junk != "" || m.envelope || !b.answersWell(m)
}

// lately looks at the last so many receipts. It returns how many the phone was right not to answer,
// and how many were about messages that it cannot know. It needs w.mu.
func (b *bot) lately(some int) (legit, junk int) {
	for _, r := range b.receipts[max(0, len(b.receipts)-some):] {
		switch m := r.message; {
		case m == nil || m.junk != "" || m.envelope || r.wrong != "":
			junk++
		case !b.answersWell(m) || !b.isOn(b, r.at, r.at):
			legit++
		}
	}
	return legit, junk
}

// candidates returns how many messages the plugin knows for the file for which the phone has it and
// answers well. It needs w.mu.
func (d *download) candidates() (n int) {
	b := d.bot
	for _, m := range b.same(d.message) {
		if m.junk != "" || m.chat.kind == newsletter {
			continue
		}
		if b.isKnown(m, d) && b.answersWell(m.message) && !b.isPaused(m) && !d.hasAskedLike(m) {
			n++
		}
	}
	return n
}

// hasAskedLike reports whether the phone was asked during a download for another message in the
// same chat, from the same sender and with the same key, and does not answer that well: one that
// was off would answer both. It needs w.mu.
func (d *download) hasAskedLike(m *mail) bool {
	return slices.ContainsFunc(d.bot.receipts[min(d.receipts, len(d.bot.receipts)):], func(r receipt) bool {
		other := r.message
		return other != nil && other != m.message && other.chat == m.chat && d.bot.isSame(other.from, m.from) &&
			other.is(m.media.GetMediaKey()) && !d.bot.answersWell(other)
	})
}

// isKnown reports whether the plugin knows a message from any source. It needs w.mu.
func (b *bot) isKnown(m *mail, d *download) bool {
	if m.chat.kind == status { // one of unknown age counts as gone
		return time.Since(m.at) < 23*time.Hour && b.remembers(m) && m.how != "edited" && m.how != "quoted"
	}
	if m == d.mail && (d.named || d.row || d.pathless) {
		return true
	}
	switch b.Lookup {
	case lookupRight, lookupRaw, lookupLate, lookupMany:
		if m.how != "quoted" && (b.remembers(m) || !b.resemblesSeen(m)) {
			return true
		}
	}
	return b.remembers(m)
}

// resemblesSeen reports whether another message that the index has is in the same chat, from the
// same sender and with the same key: a bot that names one which was not seen may mean that one. It
// needs w.mu.
func (b *bot) resemblesSeen(m *mail) bool {
	return slices.ContainsFunc(b.same(m.message), func(other *mail) bool {
		return other.message != m.message && other.chat == m.chat && b.isSame(other.from, m.from) &&
			string(other.media.GetMediaKey()) == string(m.media.GetMediaKey()) && b.remembers(other)
	})
}

// remembers reports whether the index has a message. It needs w.mu.
func (b *bot) remembers(m *mail) bool {
	if m.memory != b.memory || m.how == "table" || m.envelope {
		return false
	}
	switch b.Index {
	case indexFails, indexIgnores, indexSlow:
		return false
	case indexSmall:
		return b.stored-m.stored < b.Capacity/20 // of eight at random the oldest goes
	case indexSQLite:
		return time.Since(m.at) < sqlindex.DefaultMaxAge-day
	}
	return true
}

// isPaused reports whether the plugin is right not to ask for a message by itself. It needs w.mu.
func (b *bot) isPaused(m *mail) bool {
	for _, r := range slices.Backward(b.receipts) {
		if time.Since(r.at) > day {
			break
		}
		forgets := b.Index == indexFails || b.Index == indexIgnores || b.Index == indexSlow
		if r.message == m.message && (r.life != b.life || forgets || r.disturbed) {
			return true // what came of it may be lost, or have been taken for the phone's silence
		}
	}
	for _, same := range b.same(m.message) {
		if same.message == m.message && (time.Now().Before(same.trouble) || time.Since(same.refused) < longestPause) {
			return true
		}
	}
	return false
}

// longestPause is for how long the plugin can be right not to ask for a message.
const longestPause = 3*day + time.Hour

// troubled notes that a phone is right not to answer well.
func (w *World) troubled(b *bot, m *message) { w.troubledFor(b, m, longestPause) }

// troubledFor notes that there is no answer to a request, for which the plugin may wait so long
// before the next one.
func (w *World) troubledFor(b *bot, m *message, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.silences++
	for _, mail := range b.same(m) {
		if mail.message == m {
			if until := time.Now().Add(pause); until.After(mail.trouble) {
				mail.trouble = until
			}
		}
	}
}

// refused notes that the phone says, after a while, that it has lost a file.
func (w *World) refused(b *bot, m *message, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, mail := range b.same(m) {
		if mail.message == m {
			mail.refused = time.Now().Add(after)
		}
	}
}

// facts returns what tells the kind of a violation. It needs w.mu.
func (d *download) facts() (facts []string) {
	b := d.bot
	add := func(set bool, fact string) {
		if set {
			facts = append(facts, fact)
		}
	}
	sameHash, silent, known := 0, 0, 0
	for _, m := range b.same(d.message) {
		if m.junk != "" {
			sameHash++
		} else if !b.answersWell(m.message) {
			silent++
		} else if b.isKnown(m, d) && m.memory == b.memory && m.how != "table" {
			known++
		}
	}
	add(sameHash > 0 || b.carded[string(d.message.media.FileEncSHA256)], "junk with the hash")
	add(sameHash > 12, "much junk with the hash")
	add(silent > 0, "another message that the phone does not answer well")
	add(known == 0, "known to Lookup or the caller alone")
	add(d.row && d.oddRow, "odd row")
	add(b.Lookup != "", string(b.Lookup))
	add(b.Index != "", string(b.Index))
	add(true, "chat: "+string(d.chat.kind))
	add(true, "how: "+d.mail.how)
	add(d.own, "own")
	add(d.envelope, "envelope")
	add(d.oddNames, "odd names")
	for _, e := range d.exchanges {
		if e.fault != "" {
			add(!slices.Contains(facts, string(e.fault)), string(e.fault))
		}
	}
	sent := 0
	for _, r := range b.receipts[min(d.receipts, len(b.receipts)):] {
		if r.message != nil && r.message.file == d.file {
			sent++
			add(r.wrong != "", "named wrongly")
		}
	}
	add(sent == 0, "not asked")
	legit, junk := b.lately(60)
	add(junk >= 1 && legit+junk >= 3, "silences about what the phone does not know")
	add(d.message.oddRow, "odd row given")
	return facts
}

// checkHost checks the host that a download goes to.
func (w *World) checkHost(d *download, e exchange) {
	if slices.Contains(cdnHosts, e.host) {
		return
	}
	w.mu.Lock()
	u := w.uploads[e.path]
	redirected := u != nil && u.fault == cdnRedirect
	w.mu.Unlock()
	if e.host != otherHost || !redirected {
		var facts []string
		if e.host == otherHost {
			facts = append(facts, "host of a redirect")
		}
		w.violate(Violation{Rule: "hosts", Facts: facts, What: fmt.Sprintf("%v: %s was asked for …%s, and only a redirect of another path names that host", d, e.host, tail(e.path))})
	}
}

// A stay is a download in an event handler.
type stay struct {
	began, ended time.Time
	owed         bool // it took its time without the plugin, or has healed
}

// stays notes a download in a handler that has ended. It needs w.mu.
func (b *bot) stays(d *download, err error, faulty bool) {
	if d.inHandler {
		b.inHandler = append(b.inHandler, stay{d.began, time.Now(), err == nil || faulty})
	}
}

// checkDelay checks how long a message took to reach the bot: what was healed may take its time;
// besides, three waits for nothing, one more each minute, and one for each chat that was answered
// before.
// It needs w.mu.
func (b *bot) checkDelay(info types.MessageInfo, since time.Time) {
	took := time.Since(since)
	if since.IsZero() || b.disturbed.After(since.Add(-time.Minute)) || b.Index == indexSlow {
		return
	}
	most := b.handlerTimeout()*(3+took/time.Minute) + 4*time.Second + took/10
	for _, s := range slices.Backward(b.inHandler) {
		if s.ended.Before(since) {
			break
		}
		if s.owed {
			most += s.ended.Sub(latest(s.began, since))
		}
	}
	most += b.handlerTimeout() * time.Duration(len(b.answered))
	if took <= most {
		return
	}
	var facts []string
	if b.inHandlers {
		facts = append(facts, "bot downloads in handlers")
	}
	facts = append(facts, "delay", string(b.Index), string(b.Lookup))
	go b.violate(Violation{Rule: "handler", Facts: facts, What: fmt.Sprintf("message %s in %s came to bot %d after %v, behind others: at most %v were to be expected", info.ID, info.Chat, b.n, took, most)})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A receipt is one that a bot has sent.
type receipt struct {
	at                time.Time
	life              int // of the bot
	message           *message
	id                types.MessageID
	chat, participant types.JID
	wrong             string
	byBot             bool // the bot has asked by itself
	disturbed         bool // the connection was, while there was no answer perhaps
}

// receipt checks a request to the phone.
func (w *World) receipt(b *bot, r wabox.Request) (drop bool) {
	m := w.meant(r)
	w.count("receipt")
	w.note("bot %d asks for %s in %s from %s: %v %s", b.n, r.ID, r.Chat, r.Participant, m, r.Wrong)
	now := time.Now()
	w.mu.Lock()
	byBot := now.Sub(w.ownAsks[askedFor{b.n, r.ID}]) < time.Minute
	explicit := byBot || now.Sub(w.explicit[askedFor{b.n, r.ID}]) < time.Hour
	b.receipts = append(b.receipts, receipt{now, b.life, m, r.ID, r.Chat, r.Participant, r.Wrong, byBot, b.disturbed.After(now.Add(-time.Minute))})
	inMinute := b.firstsInMinute(now)
	ofFile, ofMessage := b.asksFor(m, now)
	var known *mail
	for _, x := range b.same(m) {
		if x.message == m {
			known = x
		}
	}
	if m != nil && r.Wrong == "" && w.answersWell(m) {
		b.silences = 0
	}
	disturbed := b.disturbed.After(now.Add(-time.Hour))
	noPause := w.NoPauses || w.Index != "" && w.Index != indexSQLite || disturbed || explicit
	var early string
	if known != nil && known.memory == b.memory && known.junk == "" && !noPause {
		if ago := now.Sub(known.refused); ago > w.timeout()+30*time.Second && ago < 23*time.Hour {
			early = fmt.Sprintf("the phone has said %v ago that it has lost the file", ago)
		}
	}
	var facts []string
	if known != nil {
		facts = append(facts, "chat: "+string(m.chat.kind), "how: "+known.how)
		if m.junk != "" {
			facts = append(facts, "junk")
		}
		if m.oddRow {
			facts = append(facts, "odd row given")
		}
	}
	if b.asks {
		facts = append(facts, "bot asks")
	}
	if w.Lookup != "" {
		facts = append(facts, string(w.Lookup))
	}
	w.mu.Unlock()
	policy := func(fact, what string) {
		w.violate(Violation{Rule: "policy", Facts: append([]string{fact}, facts...), What: fmt.Sprintf("bot %d asks for %v: %s", b.n, m, what)})
	}
	pace := orDefault(w.Pace, time.Second)
	if most := 60 + int(time.Minute/pace); inMinute == most+1 {
		policy("in a minute", fmt.Sprintf("it is the message number %d that it asks for in a minute", inMinute))
	}
	if !byBot && !explicit && !disturbed {
		if ofFile == maxMessages+1 {
			policy("one file", fmt.Sprintf("it is message number %d that it asks for in an hour for one file", ofFile))
		}
		if ofMessage == maxForms+1 && !w.NoPauses {
			policy("one message", fmt.Sprintf("it is receipt number %d for one message in a minute", ofMessage))
		}
	}
	if early != "" {
		policy("too early", early)
	}
	if !byBot {
		w.checkName(b, r, m, known, facts)
	}
	return false
}

// firstsInMinute returns how many messages the bot has asked for in the last minute, each by
// its first name: second names and repeats do not wait for the pace. It needs w.mu.
func (b *bot) firstsInMinute(now time.Time) (n int) {
	last := make(map[types.MessageID]time.Time)
	for _, r := range b.receipts[max(0, len(b.receipts)-600):] {
		isFirst := r.at.Sub(last[r.id]) > b.timeout()
		if isFirst {
			last[r.id] = r.at
		}
		if isFirst && now.Sub(r.at) < time.Minute && !r.byBot {
			n++
		}
	}
	return n
}

const (
	maxMessages = 8 // that are asked for in an hour for one file, if the bot has not named them
	maxForms    = 3 // of one request
)

// asksFor returns for how many messages with the file of one the bot has asked in the last hour,
// and since the file was healed last, without having named them; and how often it has asked for
// that message in a minute. It needs w.mu.
func (b *bot) asksFor(m *message, now time.Time) (ofFile, ofMessage int) {
	if m == nil || b.isNamed(m, now) {
		return 0, 0
	}
	hash := string(m.media.FileEncSHA256)
	since := now.Add(-time.Hour)
	if healed := b.healed[hash]; healed.After(since) {
		since = healed
	}
	seen, last := make(map[*message]bool), b.receipts[len(b.receipts)-1]
	for _, r := range slices.Backward(b.receipts) {
		if !r.at.After(since) {
			break
		}
		if r.message == nil || r.byBot || string(r.message.media.FileEncSHA256) != hash {
			continue
		}
		if r.message == m && r.participant == last.participant && now.Sub(r.at) < time.Minute {
			ofMessage++
		}
		seen[r.message] = seen[r.message] || !b.isNamed(r.message, now)
	}
	for _, counts := range seen {
		if counts {
			ofFile++
		}
	}
	return ofFile, ofMessage
}

// isNamed reports whether the bot has named a message in the last two hours. It needs w.mu.
func (b *bot) isNamed(m *message, now time.Time) bool {
	return slices.ContainsFunc(b.same(m), func(x *mail) bool { return x.message == m && now.Sub(x.given) < 2*time.Hour })
}

// hasAsked reports whether a bot has asked for a message under its right name just before.
func (w *World) hasAsked(b *bot, id types.MessageID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	recent := b.receipts[max(0, len(b.receipts)-400):]
	return slices.ContainsFunc(recent, func(r receipt) bool {
		return r.id == id && r.wrong == "" && time.Since(r.at) < w.timeout()
	})
}

func fileOf(m *message) *file {
	if m == nil {
		return nil
	}
	return m.file
}

// isOneOfMany reports whether a request names a message rightly whose id other messages have too.
func (w *World) isOneOfMany(m *message, r wabox.Request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byID[r.ID]) > 1 && (m.chat.jid == r.Chat || m.chat.has(r.Chat)) && w.isSame(m.from, r.Participant)
}

// checkName checks how a request names its message.
func (w *World) checkName(b *bot, r wabox.Request, m *message, known *mail, facts []string) {
	if known == nil {
		facts = append(facts, "no message")
	}
	for _, jid := range []types.JID{r.Chat, r.Participant} {
		isHosted := jid.Server == types.HostedServer || jid.Server == types.HostedLIDServer
		if isHosted || strings.Contains(jid.User, "@") || jid.Device != 0 || jid.Server == types.LegacyUserServer {
			if facts = append(facts, "odd"); isHosted {
				facts = append(facts, "hosted name")
			}
			w.violate(Violation{Rule: "names", Facts: facts, file: fileOf(m), What: fmt.Sprintf("bot %d sends the name %s", b.n, jid)})
			return
		}
	}
	if s := r.Participant.Server; s != "" && s != types.DefaultUserServer && s != types.HiddenUserServer {
		w.violate(Violation{Rule: "names", Facts: append(facts, "impossible participant"), What: fmt.Sprintf("bot %d sends the participant %s", b.n, r.Participant)})
		return
	}
	if r.Wrong == "" || m == nil || m.junk != "" || known == nil {
		return
	}
	if w.isOneOfMany(m, r) {
		return // the box means another message with the id
	}
	isRemote := known.life != b.life || known.how != "delivered" // so that the group need not be known to this process
	isForm := strings.Contains(r.Wrong, "is the phone number")
	if m.chat.kind == migrating || (isForm || m.oddRow) && (isRemote || w.hasAsked(b, r.ID)) {
		return // neither the bot nor its client can know; or it is the second form, of a bare number too
	}
	if isForm {
		facts = append(facts, "form")
	}
	w.violate(Violation{Rule: "names", Facts: facts, file: m.file, What: fmt.Sprintf("bot %d asks for %v, which it has %s: %s", b.n, m, known.how, r.Wrong)})
}
