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

// validity is how long the certificates of a process are good for, in each direction.
const validity = 24 * time.Hour

// An authority holds what clients are made to trust. There is one in a process, because whatsmeow
// has one root key for all of its clients: boxes can come and go while other clients are connected.
type authority struct {
	noise *keys.KeyPair   // the chat server's static key
	chain []byte          // marshalled waCert.CertChain that certifies noise
	tls   tls.Certificate // certifies WhatsApp's host names
	pool  *x509.CertPool
}

var theAuthority = sync.OnceValues(newAuthority)

func newAuthority() (*authority, error) {
	root, intermediate, leaf := keys.NewKeyPair(), keys.NewKeyPair(), keys.NewKeyPair()
	// libsignal has one logger for the process, makes it at its first use without a lock, and
	// writes to standard error. All that it says here is that a message came twice, which whatsmeow
	// logs as well.
	var silent signallog.Loggable = silence{}
	signallog.Setup(&silent)
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
	a := &authority{noise: leaf, chain: chain, pool: x509.NewCertPool()}
	if err := a.certifyHosts(); err != nil {
		return nil, err
	}
	whatsmeow.WACertPubKey = *root.Pub
	return a, nil
}

type silence struct{}

func (silence) Debug(string, string)   {}
func (silence) Info(string, string)    {}
func (silence) Warning(string, string) {}
func (silence) Error(string, string)   {}
func (silence) Configure(string)       {}

func noiseCert(issuer *keys.KeyPair, issuerSerial, serial uint32, subject *keys.KeyPair) (*waCert.CertChain_NoiseCertificate, error) {
	now := time.Now()
	details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
		Serial:       &serial,
		IssuerSerial: &issuerSerial,
		Key:          subject.Pub[:],
		NotBefore:    proto.Uint64(uint64(now.Add(-validity).Unix())),
		NotAfter:     proto.Uint64(uint64(now.Add(validity).Unix())),
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
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "WhatsApp in a box CA"},
		NotBefore:             now.Add(-validity),
		NotAfter:              now.Add(validity),
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
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		return err
	}
	a.pool.AddCert(parsed)
	a.tls = tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
	return nil
}

// CertPool returns the private CA of this process. It certifies web.whatsapp.com and WhatsApp's
// media hosts. The pool is the caller's to extend.
func CertPool() *x509.CertPool {
	a, err := theAuthority()
	if err != nil {
		return x509.NewCertPool() // New reports the error
	}
	return a.pool.Clone()
}
