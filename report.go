package reupload

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// A reporter tells the log, the counts and the bot what happens. A line that recurs is logged once
// at Info or Warn, and then at Debug.
type reporter struct {
	log    waLog.Logger
	notify func(Reupload) // nil for none
	counts counters

	saidHealed, saidStripped, saidLookup, saidSelf, saidDeaf, saidBlind atomic.Bool
}

// announce logs once how the plugin is set up and what does not work. The index is nil for the one
// in memory.
func (r *reporter) announce(degraded error, index Index, timeout, inHandler time.Duration, atOnce int) {
	state := "everything works"
	if degraded != nil {
		state = "degraded"
		r.log.Warnf("Not everything works on this client: %v", degraded)
	}
	kind := "in memory, which forgets with the process"
	if index != nil {
		kind = fmt.Sprintf("%T", index)
	}
	r.log.Infof("Expired media will be asked for: index %s; %s for an answer, %s in event handlers; %d requests at once; %s",
		kind, timeout, inHandler, atOnce, state)
}

// lacks warns of what has turned out not to work, if there is anything, the first time.
func (r *reporter) lacks(said *atomic.Bool, err error) {
	if err != nil && !said.Swap(true) {
		r.log.Warnf("Not everything works on this client: %v", err)
	}
}

// contain ends a panic of a goroutine or callback, with a line in the log. It is deferred.
func (r *reporter) contain(where string) {
	if err := recover(); err != nil {
		r.log.Errorf("Panic in %s, please report it: %v\n%s", where, err, debug.Stack())
	}
}

// healed counts an expired download that has got its file.
func (r *reporter) healed(took time.Duration) {
	r.counts.healed.Add(1)
	r.once(&r.saidHealed, "Healed a download after %s", took.Round(time.Millisecond))
}

// notHealed counts a download that was not healed. The first one with each cause is told at Info.
func (r *reporter) notHealed(cause error) {
	if r.counts.fail(cause) {
		r.log.Infof("A download was not healed (further ones for the same reason at Debug): %v", cause)
	} else {
		r.log.Debugf("A download was not healed: %v", cause)
	}
}

// stripped warns that the bot stores direct paths without their query.
func (r *reporter) stripped() {
	if !r.saidStripped.Swap(true) {
		r.log.Warnf("The bot downloads from direct paths without their query, which the CDN never accepts: store direct paths whole")
	}
}

// badLookup tells what is wrong with what Options.Lookup returns.
func (r *reporter) badLookup(err error) {
	r.once(&r.saidLookup, "Options.Lookup failed, or returned what cannot be asked for: %v", err)
}

// asksItself tells that the bot asks the phone without us.
func (r *reporter) asksItself() {
	r.once(&r.saidSelf, "The bot asks the phone for media by itself: plain downloads use what is known, and do not ask")
}

// wrongFile warns that the phone has uploaded something that is not the file.
func (r *reporter) wrongFile() {
	r.log.Warnf("The phone's new upload is not the file that the message is about; it will be asked for again")
}

// once logs the first of its kind at Info and the rest at Debug.
func (r *reporter) once(said *atomic.Bool, format string, args ...any) {
	if said.Swap(true) {
		r.log.Debugf(format, args...)
	} else {
		r.log.Infof(format, args...)
	}
}

// ended tells the log how a request has ended, and the bot of a new path. Late means that its
// callers were told otherwise before.
func (r *reporter) ended(e Entry, what reading, late, isNews bool) {
	switch {
	case what.err != nil:
		r.log.Debugf("No re-upload of %v: %v", e.Request, what.err)
	case what.result.DirectPath == "":
		r.log.Debugf("No re-upload of %v: the phone answered %v", e.Request, what.result.Status)
	case late && isNews && !e.isPart():
		r.counts.late.Add(1)
		r.log.Debugf("A late answer has brought %v back", e.Request)
	}
	if isNews && r.notify != nil && !e.isPart() {
		told := Reupload{Request: e.Request, Result: what.result, FileEncSHA256: e.FileEncSHA256, Late: late, At: time.Now()}
		go func() {
			defer r.contain("Options.OnReupload")
			r.notify(told)
		}()
	}
}
