package reupload_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
)

// testdata/peers.json holds requests, answers and notifications that other implementations have
// made (Baileys 7.0.0-rc14 and whatsmeow). testdata/peers.outcomes says, one line a vector, what
// this package makes of each.
type peers struct {
	Requests []struct {
		Name, Me, Chat, Participant, To, Wire string
		FromMe                                bool `json:"from_me"`
		ID                                    hexBytes
		MediaKey                              hexBytes `json:"media_key"`
		Plaintext                             hexBytes
		EncP                                  hexBytes `json:"enc_p"`
		EncIV                                 hexBytes `json:"enc_iv"`
		RMR                                   map[string]string
	}
	Responses []struct {
		Name, Kind      string
		Flags           []string
		ID              hexBytes
		MediaKey        hexBytes `json:"media_key"`
		IV, Ciphertext  hexBytes
		WhatsmeowOK     bool `json:"whatsmeow_ok"`
		WhatsmeowPanics bool `json:"whatsmeow_panics"`
	}
	Notifications []struct {
		Name     string
		MediaKey hexBytes `json:"media_key"`
		Wire     string
	}
}

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	*h = b
	return err
}

func loadPeers(t *testing.T) (v peers, outcomes map[string]string) {
	t.Helper()
	data, err := os.ReadFile("testdata/peers.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile("testdata/peers.outcomes")
	if err != nil {
		t.Fatal(err)
	}
	outcomes = make(map[string]string)
	for line := range strings.Lines(string(lines)) {
		if name, outcome, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			outcomes[name] = outcome
		}
	}
	return v, outcomes
}

// outcome names what was made of an answer.
func outcome(r reupload.Result, err error) string {
	for name, sentinel := range map[string]error{
		"ErrInvalidAnswer": reupload.ErrInvalidAnswer, "ErrInvalidRequest": reupload.ErrInvalidRequest, "ErrNewsletter": reupload.ErrNewsletter,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	if err != nil {
		return "unexpected error: " + err.Error()
	}
	s := r.Status.String()
	if r.DirectPath != "" {
		s += " with path"
	}
	return s
}

func check(t *testing.T, outcomes map[string]string, name, got string) {
	t.Helper()
	if want, decided := outcomes[name]; !decided {
		t.Errorf("%s has no decided outcome; it is %q", name, got)
	} else if got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func TestVectorRequests(t *testing.T) {
	t.Parallel()
	v, outcomes := loadPeers(t)
	for _, r := range v.Requests {
		own, err := types.ParseJID(r.Me)
		if err != nil {
			t.Fatal(err)
		}
		chat, err := types.ParseJID(r.Chat)
		if err != nil {
			t.Fatal(err)
		}
		participant, err := types.ParseJID(r.Participant)
		if err != nil {
			t.Fatal(err)
		}
		req := reupload.Request{MessageID: string(r.ID), Chat: chat, MediaKey: r.MediaKey, IsFromMe: r.FromMe, Participant: participant}
		node, err := reupload.Receipt(req, own, r.EncP, r.EncIV)
		if err != nil {
			check(t, outcomes, "request/"+r.Name, outcome(reupload.Result{}, err))
			continue
		}
		ciphertext, err := reupload.SealWith(r.MediaKey, string(r.ID), r.Plaintext, r.EncIV)
		if err != nil || !bytes.Equal(ciphertext, r.EncP) {
			t.Errorf("request/%s: sealed %x (%v), want %x", r.Name, ciphertext, err, r.EncP)
		}
		theirs := decode(t, r.Wire)
		wire, err := waBinary.Marshal(node)
		if err != nil {
			t.Fatal(err)
		}
		got := "as Baileys"
		if ours := decode(t, hex.EncodeToString(wire)); !reflect.DeepEqual(ours, theirs) {
			rmr := ours.GetChildByTag("rmr")
			got = fmt.Sprintf("jid=%v participant=%v", rmr.Attrs["jid"], rmr.Attrs["participant"])
		}
		check(t, outcomes, "request/"+r.Name, got)
	}
}

func decode(t *testing.T, wire string) *waBinary.Node {
	t.Helper()
	data, err := hex.DecodeString(wire)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = waBinary.Unpack(data); err != nil {
		t.Fatal(err)
	}
	node, err := waBinary.Unmarshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func TestVectorResponses(t *testing.T) {
	t.Parallel()
	v, outcomes := loadPeers(t)
	for _, r := range v.Responses {
		result, err := reupload.ReadEnvelope(r.MediaKey, string(r.ID), r.Ciphertext, r.IV)
		got := outcome(result, err)
		check(t, outcomes, "response/"+r.Name, got)

		// A second opinion, where it does not panic: whatever whatsmeow cannot open we must not
		// either, and the reverse.
		if r.WhatsmeowPanics || len(r.MediaKey) != 32 {
			continue
		}
		evt := &events.MediaRetry{MessageID: string(r.ID), Ciphertext: r.Ciphertext, IV: r.IV}
		theirs, err := whatsmeow.DecryptMediaRetryNotification(evt, r.MediaKey)
		if (err == nil) != r.WhatsmeowOK {
			t.Errorf("response/%s: whatsmeow says %v, the vector %v", r.Name, err, r.WhatsmeowOK)
		}
		authentic := got != "DECRYPTION_ERROR" || theirs.GetResult() == waMmsRetry.MediaRetryNotification_DECRYPTION_ERROR
		if err == nil && !authentic {
			t.Errorf("response/%s: whatsmeow opens it, we do not", r.Name)
		}
		if err != nil && authentic && got != "ErrInvalidAnswer" {
			t.Errorf("response/%s: whatsmeow refuses it with %v, we say %s", r.Name, err, got)
		}
		if result.DirectPath != "" && result.DirectPath != theirs.GetDirectPath() {
			t.Errorf("response/%s: path %q, whatsmeow's %q", r.Name, result.DirectPath, theirs.GetDirectPath())
		}
		if !bytes.Equal(result.MessageSecret, theirs.GetMessageSecret()) && got != "ErrInvalidAnswer" {
			t.Errorf("response/%s: message secret %x, whatsmeow's %x", r.Name, result.MessageSecret, theirs.GetMessageSecret())
		}
	}
}

func TestVectorNotifications(t *testing.T) {
	t.Parallel()
	v, outcomes := loadPeers(t)
	for _, n := range v.Notifications {
		result, ok, err := reupload.ReadNode(n.MediaKey, decode(t, n.Wire))
		got := "ignored"
		if ok {
			got = outcome(result, err)
		}
		check(t, outcomes, "notification/"+n.Name, got)
	}
}

// What we seal, whatsmeow opens: a request is no answer, but it is sealed in the same way.
func TestSealedRequestOpensWithWhatsmeow(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	ciphertext, iv, err := reupload.SealRequest(key, "3EB0A0B7F3F79DC2E7223227")
	if err != nil {
		t.Fatal(err)
	}
	evt := &events.MediaRetry{MessageID: "3EB0A0B7F3F79DC2E7223227", Ciphertext: ciphertext, IV: iv}
	opened, err := whatsmeow.DecryptMediaRetryNotification(evt, key)
	if err != nil || opened.GetStanzaID() != evt.MessageID {
		t.Errorf("whatsmeow opens %v, %v", opened, err)
	}
	if _, again, _ := reupload.SealRequest(key, evt.MessageID); bytes.Equal(iv, again) {
		t.Error("the same nonce twice")
	}
}

func FuzzOpenAnswer(f *testing.F) {
	f.Add([]byte("ciphertext that is long enough"), []byte("twelve bytes"), "3EB0")
	f.Add([]byte{}, []byte{}, "")
	f.Fuzz(func(t *testing.T, ciphertext, iv []byte, id string) {
		r, err := reupload.ReadEnvelope(bytes.Repeat([]byte{1}, 32), id, ciphertext, iv)
		if err == nil && r.Status == reupload.StatusSuccess {
			t.Errorf("opened %x", ciphertext)
		}
	})
}

func FuzzAuthenticAnswer(f *testing.F) {
	f.Add([]byte("\x0a\x043EB0\x12\x04/v/a\x18\x01"))
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		key, iv := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 12)
		ciphertext, err := reupload.SealWith(key, "3EB0", plaintext, iv)
		if err != nil {
			t.Fatal(err)
		}
		r, err := reupload.ReadEnvelope(key, "3EB0", ciphertext, iv)
		if err != nil && !errors.Is(err, reupload.ErrInvalidAnswer) {
			t.Errorf("unexpected error %v", err)
		}
		if r.DirectPath != "" && reupload.CheckDirectPath(r.DirectPath) != nil || err == nil && r.Status == reupload.StatusSuccess && r.DirectPath == "" {
			t.Errorf("unusable path in %+v", r)
		}
	})
}

func FuzzNotification(f *testing.F) {
	data, err := os.ReadFile("testdata/peers.json")
	if err != nil {
		f.Fatal(err)
	}
	var v peers
	if err := json.Unmarshal(data, &v); err != nil {
		f.Fatal(err)
	}
	for _, n := range v.Notifications {
		wire, _ := hex.DecodeString(n.Wire)
		f.Add(wire[1:])
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		node, err := unmarshal(wire)
		if err != nil {
			return
		}
		r, ok, err := reupload.ReadNode(bytes.Repeat([]byte{1}, 32), node)
		if ok && err == nil && !slices.Contains([]reupload.Status{0, 1, 2, 3}, r.Status) {
			t.Errorf("status %d", r.Status)
		}
	})
}

// unmarshal is waBinary.Unmarshal, which can panic on input that no server sends.
func unmarshal(wire []byte) (node *waBinary.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return waBinary.Unmarshal(wire)
}
