package host_test

import (
	"net/http"
	"testing"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

func TestMediaClient(t *testing.T) {
	t.Parallel()
	client, media := newClient(), new(http.Client)
	if host.MediaClient(client) == nil {
		t.Error("a new client has no media client")
	}
	client.SetMediaHTTPClient(media)
	if host.MediaClient(client) != media {
		t.Error("it is not the one that was set")
	}
	client.SetMediaHTTPClient(nil)
	if host.MediaClient(client) != nil {
		t.Error("there is one although none is set")
	}
}

func TestLookoutSeesEachChange(t *testing.T) {
	t.Parallel()
	client, media := newClient(), new(http.Client)
	client.SetMediaHTTPClient(media)
	lookout := host.Watch(client, media)
	before := lookout.Look()
	for what, change := range map[string]struct{ do, undo func() }{
		"another client":    {func() { client.SetMediaHTTPClient(new(http.Client)) }, func() { client.SetMediaHTTPClient(media) }},
		"no client":         {func() { client.SetMediaHTTPClient(nil) }, func() { client.SetMediaHTTPClient(media) }},
		"a proxy":           {func() { client.SetProxy(nil) }, func() { media.Transport = nil }},
		"another transport": {func() { media.Transport = http.NewFileTransport(nil) }, func() { media.Transport = nil }},
	} {
		if lookout.Look() != before {
			t.Fatalf("before %s there is a change", what)
		}
		change.do()
		if lookout.Look() == before {
			t.Errorf("%s is not seen", what)
		}
		change.undo()
	}
}
