package simulation

import (
	"maps"
	"slices"
	"strings"
)

// A Kind is something that can happen in a world: an operation of the bot or of people ("op:"), a
// fault of the phone, the CDN, the network, the index or Lookup, or an outcome ("end:"). Each can
// be left out, except for outcomes.
type Kind string

// Faults.
const (
	phoneOff      Kind = "phone:off"      // at night, or for a while
	phoneSlow     Kind = "phone:slow"     // answers, within the time that the plugin has
	phoneDrops    Kind = "phone:drops"    // the server has the request, and no answer comes
	phoneUnacked  Kind = "phone:unacked"  // nor does the server acknowledge it
	phoneMisses   Kind = "phone:misses"   // the server loses the first request for a message, and no other
	phoneRefuses  Kind = "phone:refuses"  // the server refuses the request
	phoneLost     Kind = "phone:lost"     // the file
	phoneLate     Kind = "phone:late"     // answers when the plugin waits no more
	phoneTwice    Kind = "phone:twice"    // answers more than once
	phoneGarbage  Kind = "phone:garbage"  // nothing can open the answer
	phoneUnsealed Kind = "phone:unsealed" // says without a seal that it does not have the file
	phoneGeneral  Kind = "phone:general"  // fails
	phoneForm     Kind = "phone:form"     // answers under one of two names only

	cdnFails    Kind = "cdn:fails"    // 5xx, a few times
	cdnBusy     Kind = "cdn:busy"     // 429, once
	cdnStalls   Kind = "cdn:stalls"   // for a while
	cdnRedirect Kind = "cdn:redirect" // to another host
	cdnCuts     Kind = "cdn:cuts"     // in the middle, once
	cdnEmpty    Kind = "cdn:empty"    // 200 and nothing, for some hundred milliseconds after an upload
	cdnOther    Kind = "cdn:other"    // other bytes, once
	cdnLate     Kind = "cdn:late"     // 404 for some hundred milliseconds after an upload
	cdnForbids  Kind = "cdn:forbids"  // 403 for a path that is not old
	cdnLarge    Kind = "cdn:large"    // a file that is compared while it comes
	cdnJunk     Kind = "cdn:junk"     // another file that is as large, under the paths of a flood

	netCut      Kind = "net:cut"
	netOffline  Kind = "net:offline"
	netStall    Kind = "net:stall"
	netHalfOpen Kind = "net:half-open"
	netRefuse   Kind = "net:refuse"  // dials of the CDN
	netLatency  Kind = "net:latency" // of the CDN
	netBroken   Kind = "net:broken"  // a message that cannot be decrypted at first

	indexSmall   Kind = "index:small"
	indexSQLite  Kind = "index:sqlite"
	indexSlow    Kind = "index:slow"
	indexFails   Kind = "index:fails"
	indexIgnores Kind = "index:ignores" // its context
	indexWipes   Kind = "index:wipes"   // the slices that it is given

	lookupRight Kind = "lookup:right"
	lookupLate  Kind = "lookup:late"
	lookupHangs Kind = "lookup:hangs"
	lookupErrs  Kind = "lookup:errs"
	lookupWrong Kind = "lookup:wrong"
	lookupMany  Kind = "lookup:many"
	lookupRaw   Kind = "lookup:raw" // senders as databases have them

	botHandler Kind = "bot:handler" // downloads inside its event handler
	botAsks    Kind = "bot:asks"    // has a retry of its own
	botShares  Kind = "bot:shares"  // an index with other bots
)

var faults = []Kind{
	phoneOff, phoneSlow, phoneDrops, phoneUnacked, phoneMisses, phoneRefuses, phoneLost, phoneLate, phoneTwice, phoneGarbage, phoneUnsealed,
	phoneGeneral, phoneForm,
	cdnFails, cdnBusy, cdnStalls, cdnRedirect, cdnCuts, cdnEmpty, cdnOther, cdnLate, cdnForbids, cdnLarge, cdnJunk,
	netBroken,
	indexSmall, indexSQLite, indexSlow, indexFails, indexIgnores, indexWipes,
	lookupRight, lookupLate, lookupHangs, lookupErrs, lookupWrong, lookupMany, lookupRaw,
	botHandler, botAsks, botShares,
}

// outcomes are how downloads and requests can end that every batch has to see.
var outcomes = []Kind{
	"end:healthy", "end:healed", "end:not_found", "end:decryption", "end:timeout", "end:phone_silent", "end:general", "end:busy",
	"end:rejected", "end:invalid_answer", "end:replay_failed", "end:unknown_message", "end:stripped_path", "end:forbidden",
	"end:not_asked", "end:newsletter", "end:invalid_request", "end:closed", "end:canceled", "end:deadline_exceeded",
	"end:not_connected", "end:none",
}

// Kinds returns all kinds that can be left out.
func Kinds() []Kind {
	all := slices.Clone(faults)
	for _, op := range operations {
		all = append(all, op.kind)
	}
	return all
}

// A Set is a set of kinds.
type Set map[Kind]bool

// ParseSet reads a list that is separated by commas. A name that ends in a colon stands for all
// kinds that begin with it.
func ParseSet(list string) (Set, error) {
	set := make(Set)
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		found := false
		for _, kind := range Kinds() {
			if string(kind) == name || strings.HasSuffix(name, ":") && strings.HasPrefix(string(kind), name) {
				set[kind] = true
				found = true
			}
		}
		if !found {
			return nil, unknownKind(name)
		}
	}
	return set, nil
}

type unknownKind string

func (k unknownKind) Error() string {
	return "there is no kind of operation or fault that is called " + string(k)
}

func (s Set) String() string {
	names := make([]string, 0, len(s))
	for _, kind := range slices.Sorted(maps.Keys(s)) {
		names = append(names, string(kind))
	}
	return strings.Join(names, ",")
}
