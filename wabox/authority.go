package wabox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"

	"go.mau.fi/libsignal/ecc"
	signallog "go.mau.fi/libsignal/logger"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/util/keys"
	"google.golang.org/protobuf/proto"
)

// notBefore and notAfter are when the certificates of a process are good. The clock of a
// testing/synctest bubble starts in the year 2000, and can run for long.
var (
	notBefore = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
)

// An authority holds what clients are made to trust. There is one in a process, because whatsmeow
// has one root key for all of its clients: boxes can come and go while other clients are connected.
// It is the process's own, or that of another one, see [Join].
type authority struct {
	root [32]byte          // certifies chat servers
	ca   *x509.Certificate // certifies hosts

	// Set only in the process's own authority, for servers:
	noise *keys.KeyPair   // the chat server's static key
	chain []byte          // marshalled waCert.CertChain that certifies noise
	tls   tls.Certificate // certifies WhatsApp's host names
}

// trusted is the authority of this process. nil until it is first needed.
var trusted struct {
	mu        sync.Mutex
	authority *authority
}

// theAuthority returns what this process trusts, which is an authority of its own if it has not
// joined another one.
func theAuthority() (*authority, error) {
	trusted.mu.Lock()
	defer trusted.mu.Unlock()
	if trusted.authority != nil {
		return trusted.authority, nil
	}
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	trust(a)
	return a, nil
}

// trust makes the process's clients trust an authority. It needs trusted.mu.
func trust(a *authority) {
	// libsignal has one logger for the process, makes it at its first use without a lock, and
	// writes to standard error. All that it says here is that a message came twice, which whatsmeow
	// logs as well.
	var silent signallog.Loggable = silence{}
	signallog.Setup(&silent)
	whatsmeow.WACertPubKey = a.root
	trusted.authority = a
}

func newAuthority() (*authority, error) {
	root, intermediate, leaf := keys.NewKeyPair(), keys.NewKeyPair(), keys.NewKeyPair()
	intermediateCert, err := noiseCert(root, whatsmeow.WACertIssuerSerial, 1, intermediate)
	if err != nil {
		return nil, err
	}
	leafCert, err := noiseCert(intermediate, 1, 2, leaf)
	if err != nil {
		return nil, err
	}
	chain, err := proto.Marshal(&waCert.CertChain{Intermediate: intermediateCert, Leaf: leafCert})
	if err != nil {
		return nil, err
	}
	a := &authority{root: *root.Pub, noise: leaf, chain: chain}
	if err := a.certifyHosts(); err != nil {
		return nil, err
	}
	return a, nil
}

type silence struct{}

func (silence) Debug(string, string)   {}
func (silence) Info(string, string)    {}
func (silence) Warning(string, string) {}
func (silence) Error(string, string)   {}
func (silence) Configure(string)       {}

func noiseCert(issuer *keys.KeyPair, issuerSerial, serial uint32, subject *keys.KeyPair) (*waCert.CertChain_NoiseCertificate, error) {
	details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
		Serial:       &serial,
		IssuerSerial: &issuerSerial,
		Key:          subject.Pub[:],
		NotBefore:    proto.Uint64(uint64(notBefore.Unix())),
		NotAfter:     proto.Uint64(uint64(notAfter.Unix())),
	})
	if err != nil {
		return nil, err
	}
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*issuer.Priv), details)
	return &waCert.CertChain_NoiseCertificate{Details: details, Signature: signature[:]}, nil
}

// certifyHosts makes the TLS certificate: a CA, and one leaf for every host name that
// whatsmeow connects to.
func (a *authority) certifyHosts() error {
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "WhatsApp in a box CA"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "WhatsApp in a box"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// A wildcard stands for one label only, so the regional CDN hosts need names of their own.
		DNSNames: []string{
			"web.whatsapp.com", "static.whatsapp.net", "*.whatsapp.net", "*.fna.whatsapp.net", "*.cdn.whatsapp.net",
		},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("failed to make CA: %w", err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("failed to certify hosts: %w", err)
	}
	if a.ca, err = x509.ParseCertificate(caDER); err != nil {
		return err
	}
	a.tls = tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
	return nil
}

// CertPool returns the private CA that this process trusts, its own or the one that it has got with
// [Join]. It certifies web.whatsapp.com and WhatsApp's media hosts. The pool is the caller's to
// extend.
func CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	if a, err := theAuthority(); err == nil { // New reports the error
		pool.AddCert(a.ca)
	}
	return pool
}
