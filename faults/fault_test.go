package faults

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A fault is something that goes wrong. It does one of three things: it strikes at a moment, it
// changes what the server and the phone do about a request, or it changes what the CDN does about a
// download.
type fault struct {
	name   string // as in an expression, with its argument: "cut(5s)"
	family *family

	strike  func(w *world)
	restart bool // the process ends, and the next one makes the call
	keeps   bool // and that has what was in the index

	answer   func(good wabox.Answer) wabox.Answer
	byServer bool          // that is the server's doing
	dropped  bool          // the server forgets the request
	again    bool          // the answer that has come comes again
	until    time.Duration // the answer comes so long after the call

	serve  func(http.ResponseWriter, *http.Request, *world) (done bool)
	refuse bool          // dials are refused
	lasts  time.Duration // from the first time that it is met; 0 until it is lifted
	short  bool          // it happens in the middle of a body

	// What it takes to go on when the fault is over.
	connect, register, pair bool
}

// A kind makes faults, of the argument that stands in brackets.
type kind struct {
	name  string
	args  []string // that the matrix has; "" is the fault without brackets
	means string   // on the page
	make  func(f *fault, arg string) error
}

// A family is a section of the page.
type family struct {
	title string
	kinds []kind
	// impossible says why a fault cannot happen in a phase, or "".
	impossible func(fault, phase) string
}

// faultNames returns the faults of the matrix, in the page's order.
func faultNames() (names []string) {
	for _, family := range families {
		for _, k := range family.kinds {
			names = append(names, k.names()...)
		}
	}
	return names
}

func (k kind) names() (names []string) {
	for _, arg := range k.args {
		if arg == "" {
			names = append(names, k.name)
		} else {
			names = append(names, k.name+"("+arg+")")
		}
	}
	return names
}

var faultSyntax = regexp.MustCompile(`^([a-z-]+)(?:\(([^()]*)\))?$`)

// parseFault returns the fault of an expression, which can have another argument than those of the
// matrix.
func parseFault(name string) (fault, error) {
	parts := faultSyntax.FindStringSubmatch(name)
	if parts == nil {
		return fault{}, fmt.Errorf("%q is not a fault, which is NAME or NAME(ARGUMENT)", name)
	}
	for _, family := range families {
		for _, k := range family.kinds {
			if k.name == parts[1] {
				f := fault{name: name, family: family}
				if err := k.make(&f, parts[2]); err != nil {
					return fault{}, fmt.Errorf("%s: %w", name, err)
				}
				return f, nil
			}
		}
	}
	return fault{}, fmt.Errorf("there is no fault %q; there are %s", parts[1], strings.Join(faultNames(), ", "))
}

var families = []*family{&ofConnection, &ofServer, &ofPhone, &ofCDN, &ofBot}

// plain makes faults that take no argument.
func plain(set func(*fault)) func(*fault, string) error {
	return func(f *fault, arg string) error {
		if arg != "" {
			return fmt.Errorf("it takes no argument")
		}
		set(f)
		return nil
	}
}

// timed makes faults that take a time.
func timed(set func(*fault, time.Duration)) func(*fault, string) error {
	return func(f *fault, arg string) error {
		d, err := time.ParseDuration(arg)
		set(f, d)
		return err
	}
}

var ofConnection = family{
	title: "The connection to WhatsApp",
	impossible: func(fault, phase) string {
		return ""
	},
	kinds: []kind{
		{"cut", []string{"", "5s"}, "the connection breaks, and the server can be reached again at once, or after 5 s", func(f *fault, arg string) error {
			if arg == "" {
				f.strike = func(w *world) { w.account.Cut() }
				return nil
			}
			d, err := time.ParseDuration(arg)
			f.strike = func(w *world) {
				w.account.Offline(true)
				w.after(d, func() { w.account.Offline(false) })
			}
			return err
		}},
		{"away", []string{""}, "the connection breaks, and the server cannot be reached until the call has ended", plain(func(f *fault) {
			f.strike = func(w *world) { w.account.Offline(true) }
		})},
		{"unreachable", []string{"5s"}, "the connection breaks, and dials are refused for 5 s", timed(func(f *fault, d time.Duration) {
			f.strike = func(w *world) {
				w.set(func() { w.refusesChat = true })
				w.account.Cut()
				w.after(d, func() { w.set(func() { w.refusesChat = false }) })
			}
		})},
		{"half-open", []string{"client", "server"}, "the connection has ended, and the client, or the server, does not learn of it", func(f *fault, arg string) error {
			side, ok := map[string]wabox.Fault{"client": wabox.ClientUnaware, "server": wabox.ServerUnaware}[arg]
			if !ok {
				return fmt.Errorf("it is client or server that does not learn of it")
			}
			f.strike = func(w *world) { w.must(w.account.Disturb(side, 0)) }
			return nil
		}},
		{"stall", []string{"5s", "1m"}, "nothing arrives for 5 s or a minute, and then everything does", timed(func(f *fault, d time.Duration) {
			f.strike = func(w *world) { w.must(w.account.Disturb(wabox.Stall, d)) }
		})},
		{"logout", []string{""}, "the user removes the device, and links the bot again when the call has ended", plain(func(f *fault) {
			f.strike, f.pair = func(w *world) { w.account.Logout() }, true
		})},
		{"replaced", []string{""}, "another client logs in with the same session, and leaves when the call has ended", plain(func(f *fault) {
			f.strike, f.connect = (*world).replace, true
		})},
	},
}

var ofServer = family{
	title: "The server and the request",
	impossible: func(_ fault, p phase) string {
		switch {
		case p < sent:
			return "The server has no request yet."
		case p > sent:
			return "The server has dealt with the request."
		}
		return ""
	},
	kinds: []kind{
		{"rejected", []string{"479"}, "the server refuses the request with this error", func(f *fault, arg string) error {
			f.byServer = true
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.Ack = wabox.AckError(arg)
				return good
			}
			return nil
		}},
		{"no-ack", []string{""}, "the server does not acknowledge the request, and the phone answers it", plain(func(f *fault) {
			f.byServer = true
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.Ack, good.Delay = wabox.AckNone, good.AckDelay+good.Delay
				return good
			}
		})},
		{"dropped", []string{""}, "the server loses the request", plain(func(f *fault) { f.dropped = true })},
	},
}

// said makes faults that are in what the phone says.
func said(change func(*wabox.Answer)) func(*fault, string) error {
	return plain(func(f *fault) {
		f.answer = func(good wabox.Answer) wabox.Answer {
			change(&good)
			return good
		}
	})
}

var ofPhone = family{
	title: "The phone's answer",
	impossible: func(f fault, p phase) string {
		switch {
		case p < sent:
			return "The phone was not asked yet."
		case p == acked:
			return "An answer after the ack is in the column `answering`."
		case f.until != 0 && p != answering, f.name == "silent" && p != answering:
			return "There is an answer by then."
		}
		return ""
	},
	kinds: []kind{
		{"silent", []string{""}, "the phone says nothing, as when it is off", said(func(a *wabox.Answer) { a.None = true })},
		{"late", []string{"40s"}, "the answer comes 40 s after the request", timed(func(f *fault, d time.Duration) {
			f.until = d
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.Delay += d - ackAfter - answerAfter
				return good
			}
		})},
		{"twice", []string{""}, "the answer comes twice; at `healed`, during the next call", plain(func(f *fault) {
			f.again = true
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.Repeat = 1
				return good
			}
		})},
		{"garbage", []string{""}, "the answer cannot be decrypted", said(func(a *wabox.Answer) { a.Garbage = true })},
		{"iv", []string{"16"}, "the answer's IV has 16 bytes, and not 12", func(f *fault, arg string) error {
			n, err := strconv.Atoi(arg)
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.IV = make([]byte, max(n, 0))
				rand.Read(good.IV)
				return good
			}
			return err
		}},
		{"other-id", []string{""}, "the answer names another message inside", said(func(a *wabox.Answer) {
			other := "3EB0OTHER"
			a.StanzaID = &other
		})},
		{"no-path", []string{""}, "the phone reports success without a path", said(func(a *wabox.Answer) { a.NoPath = true })},
		{"foreign-path", []string{""}, "the path leads to another host", said(func(a *wabox.Answer) {
			a.DirectPath = "https://media.example.com/v/t62.7118-24/1_n.enc?oh=01_A&oe=7FFFFFFF"
		})},
		{"error", []string{"0", "1", "2", "3"}, "an error with this code, not sealed: anybody can have provoked it", func(f *fault, arg string) error {
			f.answer = func(good wabox.Answer) wabox.Answer {
				good.ErrorCode = &arg
				return good
			}
			return nil
		}},
		{"lost", []string{""}, "the phone says, sealed, that it has lost the file (NOT_FOUND)", said(func(a *wabox.Answer) { a.Result = wabox.NotFound })},
		{"unreadable", []string{""}, "the phone says, sealed, that it cannot decrypt the request (DECRYPTION_ERROR)", said(func(a *wabox.Answer) { a.Result = wabox.DecryptionError })},
		{"general", []string{""}, "the phone says, sealed, that it failed (GENERAL_ERROR)", said(func(a *wabox.Answer) { a.Result = wabox.GeneralError })},
		{"general-with-path", []string{""}, "the same, and a path that works", said(func(a *wabox.Answer) { a.Result, a.WithPath = wabox.GeneralError, true })},
	},
}

// served makes faults of what the CDN answers, for ever or for a time.
func served(serve func(http.ResponseWriter, *http.Request, *world) bool) func(*fault, string) error {
	return func(f *fault, arg string) (err error) {
		f.serve = serve
		if arg != "" {
			f.lasts, err = time.ParseDuration(arg)
		}
		return err
	}
}

var ofCDN = family{
	title: "The CDN",
	impossible: func(f fault, p phase) string {
		switch {
		case p == first || p == healed:
			return ""
		case !p.fetches():
			return "Nothing is downloaded then."
		case f.refuse && p != dial:
			return "This happens while the connection is made."
		case f.short && p != body:
			return "This happens in the middle of the file."
		case !f.refuse && !f.short && p != headers:
			return "This happens when the CDN answers."
		}
		return ""
	},
	kinds: []kind{
		{"refused", []string{"", "500ms"}, "connections to the CDN are refused, until the call has ended or for half a second", func(f *fault, arg string) (err error) {
			f.refuse = true
			if arg != "" {
				f.lasts, err = time.ParseDuration(arg)
			}
			return err
		}},
		{"http", []string{"403", "404", "410", "429", "500", "503", "404,500ms", "503,500ms"}, "the CDN answers with this status, until the call has ended or for half a second", func(f *fault, arg string) (err error) {
			code, lasts, _ := strings.Cut(arg, ",")
			status, err := strconv.Atoi(code)
			if err == nil && lasts != "" {
				f.lasts, err = time.ParseDuration(lasts)
			}
			f.serve = func(w http.ResponseWriter, _ *http.Request, _ *world) bool {
				w.WriteHeader(status)
				return true
			}
			return err
		}},
		{"expired", []string{""}, "the CDN answers with 403, and says that the URL has expired", plain(func(f *fault) {
			f.serve = func(w http.ResponseWriter, _ *http.Request, _ *world) bool {
				http.Error(w, "URL signature expired", http.StatusForbidden)
				return true
			}
		})},
		{"empty", []string{"", "500ms"}, "the CDN answers with 200 and nothing, for as long", served(func(w http.ResponseWriter, _ *http.Request, _ *world) bool {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusOK)
			return true
		})},
		{"other-bytes", []string{"", "500ms"}, "the CDN answers with 200 and another file, for as long", served(func(w http.ResponseWriter, _ *http.Request, s *world) bool {
			_, _ = w.Write(make([]byte, s.media.Length))
			return true
		})},
		{"short", []string{""}, "the connection breaks in the middle of the file", func(f *fault, arg string) error {
			f.short = true
			return served(func(w http.ResponseWriter, _ *http.Request, s *world) bool {
				w.Header().Set("Content-Length", strconv.Itoa(s.media.Length))
				_, _ = w.Write(make([]byte, s.media.Length/2))
				panic(http.ErrAbortHandler)
			})(f, arg)
		}},
		{"slow", []string{"4s", "10m"}, "the CDN takes 4 s or ten minutes to answer; the context of the call ends after two minutes", timed(func(f *fault, d time.Duration) {
			f.serve = func(_ http.ResponseWriter, r *http.Request, _ *world) bool {
				select {
				case <-time.After(d):
					return false
				case <-r.Context().Done():
					return true
				}
			}
		})},
		{"redirect", []string{""}, "the CDN redirects to another of WhatsApp's hosts, which has the file", plain(func(f *fault) {
			f.serve = func(w http.ResponseWriter, r *http.Request, s *world) bool {
				http.Redirect(w, r, "https://"+otherHost+s.box.Reupload(s.media)+"&"+r.URL.RawQuery[strings.Index(r.URL.RawQuery, "hash="):], http.StatusFound)
				return true
			}
		})},
	},
}

var ofBot = family{
	title: "The bot",
	impossible: func(fault, phase) string {
		return ""
	},
	kinds: []kind{
		{"cancel", []string{""}, "the call's context ends", plain(func(f *fault) {
			f.strike = func(w *world) { w.cancel() }
		})},
		{"disconnect", []string{""}, "the bot disconnects its client, and connects it again when the call has ended", plain(func(f *fault) {
			f.strike, f.connect = func(w *world) { w.bot.client.Disconnect() }, true
		})},
		{"close", []string{""}, "the bot closes the plugin, and registers it again when the call has ended", plain(func(f *fault) {
			f.strike, f.register = func(w *world) { w.must(w.bot.plugin.Close()) }, true
		})},
		{"reregister", []string{""}, "the bot closes the plugin, and registers it again at once", plain(func(f *fault) {
			f.strike = func(w *world) {
				w.must(w.bot.plugin.Close())
				w.bot.register()
			}
		})},
		{"restart", []string{"", "empty"}, "the process is killed, and the next one starts within a second, with the index or with an empty one; " +
			"the cell is about the next one's call", func(f *fault, arg string) error {
			if arg != "" && arg != "empty" {
				return fmt.Errorf("it is restart or restart(empty)")
			}
			f.restart, f.keeps = true, arg == ""
			f.strike = (*world).restart
			return nil
		}},
	},
}
