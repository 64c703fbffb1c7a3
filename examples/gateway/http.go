package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// handler returns the endpoints.
func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts/{account}/chats/{chat}/messages/{id}/media", g.serveMedia)
	mux.HandleFunc("GET /accounts", g.serveList)
	mux.HandleFunc("POST /accounts", g.servePair)
	return g.guard(mux)
}

// patience is how long it may take to get a file: some time for the phone, which can be asked more than once, and for a large
// file to be downloaded.
func (g *gateway) patience() time.Duration { return 4*g.cfg.timeout + 10*time.Minute }

// serveMedia streams the media of a message.
func (g *gateway) serveMedia(w http.ResponseWriter, r *http.Request) {
	phone := strings.TrimPrefix(r.PathValue("account"), "+")
	chat, ok := parseChat(r.PathValue("chat"))
	if !ok {
		fail(w, failure{status: http.StatusBadRequest, Error: "the chat is no JID such as 447700900123@s.whatsapp.net or 120363000000000000@g.us"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.patience())
	defer cancel()
	m, err := g.find(ctx, phone, chat, r.PathValue("id"))
	if err == nil {
		err = g.stream(ctx, w, r, phone, m)
	}
	if err == nil {
		return
	}
	what := failureOf(err)
	if what.status == http.StatusBadGateway {
		g.log.Warn("A file could not be had", "account", phone, "chat", chat.String(), "id", r.PathValue("id"),
			"error", err, "cause", reupload.Cause(err))
	}
	fail(w, what)
}

// stream downloads a file and passes it on. It needs to be there as a whole first: only then is it known to be the right one.
func (g *gateway) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, phone string, m *message) error {
	a := g.account(phone)
	if a == nil {
		return errNotLinked
	}
	file, err := os.CreateTemp("", "reupload-gateway-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err = a.download(ctx, m, file); err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", contentType(m.media))
	header.Set("Content-Disposition", disposition(m))
	header.Set("ETag", strconv.Quote(hex.EncodeToString(m.media.GetFileSHA256())))
	// The file is from a stranger: no browser is to take it for a page of the gateway.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	http.ServeContent(w, r, "", m.info.Timestamp, file) // with Content-Length, and in parts if the caller wants that
	return nil
}

// find returns a message under either address of its chat: WhatsApp uses phone numbers and LIDs.
func (g *gateway) find(ctx context.Context, phone string, chat types.JID, id types.MessageID) (*message, error) {
	m, err := g.messages.get(ctx, phone, chat, id)
	if a := g.account(phone); a != nil && errors.Is(err, errUnknown) {
		if other, altErr := a.client.Store.GetAltJID(ctx, chat); altErr == nil && !other.IsEmpty() {
			return g.messages.get(ctx, phone, other, id)
		}
	}
	return m, err
}

// servePair begins to link an account.
func (g *gateway) servePair(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Phone string `json:"phone"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body)
	phone := notDigits.ReplaceAllString(body.Phone, "")
	if err != nil || len(phone) < 7 || len(phone) > 15 || phone[0] == '0' {
		fail(w, failure{status: http.StatusBadRequest, Error: `send {"phone": "+491701234567"}, with the number in international form`})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	code, err := g.pair(ctx, phone)
	switch {
	case errors.Is(err, errLinked):
		fail(w, failure{status: http.StatusConflict, Error: errLinked.Error()})
	case err != nil:
		g.log.Warn("An account was not linked", "account", phone, "error", err)
		fail(w, failure{status: http.StatusBadGateway, Error: errNoCode.Error(), Retry: true})
	default:
		writeJSON(w, http.StatusAccepted, map[string]any{
			"code": code, "expires_in": pairingTime.Seconds(),
			"hint": "type the code on the phone: WhatsApp > Linked devices > Link a device > Link with phone number",
		})
	}
}

var notDigits = regexp.MustCompile(`[^0-9]`)

func (g *gateway) serveList(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"accounts": g.list()})
}

func fail(w http.ResponseWriter, what failure) {
	w.Header().Set("Cache-Control", "no-store")
	if what.Retry && what.status != http.StatusBadGateway {
		w.Header().Set("Retry-After", "60") // sooner, the phone is not asked again
	}
	writeJSON(w, what.status, what)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // it fails only if the caller has gone
}

var userOfJID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// parseChat parses the JID of something that has messages.
func parseChat(s string) (types.JID, bool) {
	chat, err := types.ParseJID(s)
	if err != nil || !userOfJID.MatchString(chat.User) {
		return types.EmptyJID, false
	}
	switch chat.Server {
	case types.DefaultUserServer, types.HiddenUserServer, types.GroupServer, types.BroadcastServer, types.NewsletterServer:
		return chat.ToNonAD(), true
	}
	return types.EmptyJID, false
}

// contentType returns the type that the message has for its file.
func contentType(m media) string {
	base, params, err := mime.ParseMediaType(m.GetMimetype())
	if err != nil || !strings.Contains(base, "/") {
		return "application/octet-stream"
	}
	return mime.FormatMediaType(base, params)
}

// disposition lets browsers show pictures, videos and audio, and download everything else. SVG is a program.
func disposition(m *message) string {
	how, base := "attachment", strings.ToLower(contentType(m.media))
	kind, _, _ := strings.Cut(base, "/")
	if (kind == "image" || kind == "video" || kind == "audio") && !strings.HasPrefix(base, "image/svg") {
		how = "inline"
	}
	// FormatMediaType encodes whatever is in the name, and returns "" for what it cannot.
	if formatted := mime.FormatMediaType(how, map[string]string{"filename": fileName(m)}); formatted != "" {
		return formatted
	}
	return how
}

// fileName returns the name that a document has, without directories, or else the message's id with an extension.
func fileName(m *message) string {
	if document, ok := m.media.(interface{ GetFileName() string }); ok {
		name := strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return -1
			}
			return r
		}, strings.ToValidUTF8(document.GetFileName(), ""))
		name = strings.TrimLeft(path.Base(strings.ReplaceAll(name, `\`, "/")), ". ")
		if name != "" && name != "/" {
			return name
		}
	}
	return m.info.ID + extensions[strings.SplitN(contentType(m.media), ";", 2)[0]]
}

var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif",
	"video/mp4": ".mp4", "video/3gpp": ".3gp", "audio/ogg": ".ogg", "audio/mpeg": ".mp3", "audio/mp4": ".m4a",
	"application/pdf": ".pdf",
}
