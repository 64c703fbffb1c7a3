package reupload_test

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestProxyIsNeverBypassed(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(r *rig, proxy *wabox.Proxy){
		"set before Register": func(r *rig, proxy *wabox.Proxy) {
			r.client.SetProxy(http.ProxyURL(proxy.URL()))
			r.register(nil)
		},
		"set after Register": func(r *rig, proxy *wabox.Proxy) {
			r.register(nil)
			r.client.SetProxy(http.ProxyURL(proxy.URL()))
		},
		"client set after Register": func(r *rig, proxy *wabox.Proxy) {
			r.register(nil)
			tr := http.DefaultTransport.(*http.Transport).Clone()
			tr.Proxy = http.ProxyURL(proxy.URL())
			r.client.SetMediaHTTPClient(&http.Client{Transport: tr})
		},
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newUnregisteredRig(t)
			proxy, err := r.box.NewProxy()
			if err != nil {
				t.Fatal(err)
			}
			set(r, proxy)
			// Only the proxy knows where WhatsApp's hosts are: a request that bypasses it
			// cannot be answered.
			r.client.SetWebsocketHTTPClient(&http.Client{Transport: r.box.Transport()})
			r.connect()
			p := r.receivePicture()
			before := proxy.Hits()
			r.heals(p)
			r.asked(1)
			host.MediaClient(r.client).CloseIdleConnections()
			if proxy.Hits() == before {
				t.Error("nothing went through the proxy")
			}
			r.plugin.Close()
			if _, err = r.client.Download(r.ctx(), p.image); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
				t.Errorf("after Close: %v", err)
			}
			host.MediaClient(r.client).CloseIdleConnections()
		})
	}
}

// A proxy or media client that is set while connected is wrapped before the next download that an
// event leads to.
func TestProxyThatIsSetWhileConnected(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		proxy, err := r.box.NewProxy()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // whatsmeow has no lock for what is set here
		r.client.SetProxy(http.ProxyURL(proxy.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
		r.heals(r.receivePicture())
		if proxy.Hits() == 0 {
			t.Error("the proxy was not used")
		}
		// And before the next event, if it is the plugin that is called.
		p, hits := r.receivePicture(), proxy.Hits()
		second, err := r.box.NewProxy()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.client.SetProxy(http.ProxyURL(second.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
		if _, err = r.plugin.Download(r.ctx(), &p.evt.Info, p.image); err != nil || second.Hits() == 0 || proxy.Hits() != hits {
			t.Errorf("through the first proxy went %d more, through the second %d: %v", proxy.Hits()-hits, second.Hits(), err)
		}
		r.phone.Script(p.id(), wabox.Answer{None: true}) // no event comes meanwhile
		other := r.receivePicture()
		synctest.Wait()
		r.client.SetProxy(http.ProxyURL(proxy.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
		if _, err := r.plugin.RequestReupload(r.ctx(), p.request()); err == nil {
			t.Error("the phone has answered")
		}
		hits = second.Hits()
		r.heals(other)
		if second.Hits() != hits {
			t.Error("the proxy of before was used")
		}
		spy := &http.Client{Transport: r.box.Transport(), Timeout: time.Minute}
		t.Cleanup(spy.CloseIdleConnections)
		synctest.Wait()
		r.client.SetMediaHTTPClient(spy)
		hits = second.Hits()
		r.heals(r.receivePicture())
		if second.Hits() != hits {
			t.Error("the old proxy was used")
		}
		r.plugin.Close()
		if host.MediaClient(r.client) != spy {
			t.Error("the bot's own client is not back")
		}
		another := &http.Client{}
		r.client.SetMediaHTTPClient(another) // of which a plugin that is closed makes nothing
		_, _ = r.plugin.RequestReupload(r.ctx(), p.request())
		if host.MediaClient(r.client) != another {
			t.Error("it was wrapped after Close")
		}
	})
}

// What the bot has set of Options.HTTPClient stays when it sets a proxy, and what the client had
// before comes back with that proxy.
func TestProxyAfterAnHTTPClientOfOnesOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const timeout = time.Minute
		r := newUnregisteredRig(t)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		before := host.MediaClient(r.client)
		r.register(&reupload.Options{HTTPClient: &http.Client{Transport: r.box.Transport(), Timeout: timeout, Jar: jar}})
		proxy, err := r.box.NewProxy()
		if err != nil {
			t.Fatal(err)
		}
		r.client.SetProxy(http.ProxyURL(proxy.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
		r.connect()
		r.heals(r.receivePicture())
		site := &url.URL{Scheme: "https", Host: "mmg.whatsapp.net"}
		jar.SetCookies(site, []*http.Cookie{{Name: "a", Value: "b"}})
		if got := host.MediaClient(r.client); len(got.Jar.Cookies(site)) != 1 || reupload.ExchangeTimeout(got) != timeout || proxy.Hits() == 0 {
			t.Errorf("jar kept: %t, time-out %s, %d through the proxy", len(got.Jar.Cookies(site)) == 1, reupload.ExchangeTimeout(got), proxy.Hits())
		}
		r.plugin.Close()
		after := host.MediaClient(r.client)
		if after.Jar != nil || after.Timeout != before.Timeout {
			t.Error("after Close, the client has what was meant for the plugin")
		}
		after.CloseIdleConnections() // what counts is each new one
		hits := proxy.Hits()
		if _, err = r.client.Download(r.ctx(), r.receivePicture().image); proxy.Hits() == hits {
			t.Errorf("after Close, the proxy is lost: %v", err)
		}
		after.CloseIdleConnections()
	})
}

func TestMediaClientIsCopiedAndPutBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		tr := r.box.Transport()
		own := &http.Client{Transport: tr, Timeout: time.Minute, Jar: jar}
		r.client.SetMediaHTTPClient(own)
		r.register(nil)
		wrapped := host.MediaClient(r.client)
		if wrapped == own || own.Transport != tr {
			t.Error("the bot's own client was changed")
		}
		site, cookie := &url.URL{Scheme: "https", Host: "mmg.whatsapp.net"}, &http.Cookie{Name: "a", Value: "b"}
		wrapped.Jar.SetCookies(site, []*http.Cookie{cookie})
		if len(jar.Cookies(site)) != 1 || len(wrapped.Jar.Cookies(site)) != 1 {
			t.Error("the Jar is lost")
		}
		if _, err = reupload.Register(r.client, nil); !errors.Is(err, reupload.ErrAlreadyRegistered) {
			t.Errorf("second Register: %v", err)
		}
		r.plugin.Close()
		if host.MediaClient(r.client) != own || own.Transport != tr {
			t.Error("the media client is not back")
		}

		// And the whole again, connected this time.
		r.register(nil)
		r.connect()
		r.heals(r.receivePicture())
		r.client.SetProxy(nil)
		if _, err = reupload.Register(r.client, nil); !errors.Is(err, reupload.ErrAlreadyRegistered) {
			t.Errorf("Register while registered and with another proxy: %v", err)
		}
		r.plugin.Close()
		r.client.SetMediaHTTPClient(own)
		r.register(nil)
		r.heals(r.receivePicture()) // our handler is the first again
		if err = r.plugin.Degraded(); err != nil {
			t.Errorf("the tap that was left in place was not taken over: %v", err)
		}
	})
}
