package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// guard lets in only callers that know the token, if there is one. It keeps out foreign web pages
// in a browser on the same machine, whether they ask across origins or under a name of their own
// that leads here.
func (g *gateway) guard(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(foreign))
	return g.ownHostOnly(protection.Handler(g.withToken(next)))
}

// foreign refuses what comes from elsewhere.
func foreign(w http.ResponseWriter, _ *http.Request) {
	fail(w, failure{status: http.StatusForbidden, Error: "this host or site may not ask; a proxy's host is allowed with -host"})
}

// ownHostOnly refuses what a browser asks for another site's page, and on a loopback address what
// is not addressed to one.
func (g *gateway) ownHostOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		known := host == "localhost" || host == g.cfg.host || ip != nil && ip.IsLoopback()
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" || local != nil && local.IP.IsLoopback() && !known {
			foreign(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withToken refuses callers that do not know the token: a program as a bearer, a browser as the
// password of any user, and another gateway by a proof of it.
func (g *gateway) withToken(next http.Handler) http.Handler {
	checked := g.checkToken(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(passedHeader) != "" {
			g.letPass(w, r, next)
			return
		}
		checked.ServeHTTP(w, r)
	})
}

func (g *gateway) checkToken(next http.Handler) http.Handler {
	if g.cfg.token == "" {
		return next
	}
	want := sha256.Sum256([]byte(g.cfg.token)) // of one length, whatever was sent
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" || r.URL.Path == "/readyz" { // probes know no secrets
			next.ServeHTTP(w, r)
			return
		}
		_, given, _ := r.BasicAuth()
		if scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
			given = strings.TrimSpace(credentials)
		}
		if got := sha256.Sum256([]byte(given)); subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Add("WWW-Authenticate", `Bearer realm="gateway"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="gateway", charset="UTF-8"`)
			fail(w, failure{status: http.StatusUnauthorized, Error: "send the gateway's token: Authorization: Bearer …"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
