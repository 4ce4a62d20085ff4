// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{t: t, cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// issue makes a certificate and gives it as files, too.
func (a *authority) issue(name string) (pair tls.Certificate, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	dir := a.t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(a.t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(a.t, os.WriteFile(keyFile, keyPEM, 0o600))
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(a.t, err)
	return pair, certFile, keyFile
}

// roundTrip delivers one message to an input and gets it acknowledged.
func roundTrip(t *testing.T, b *scriptedBroker, in *input) *scriptedConn {
	t.Helper()
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	large := strings.Repeat("x", 200_000)
	c.publishText(1, 1, false, large)
	texts, ack := readOne(t, in)
	require.Equal(t, []string{large}, texts)
	ackOK(t, ack)
	c.pubacks(1)
	return c
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	server, _, _ := ca.issue("broker")
	_, certFile, keyFile := ca.issue("worker")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	listen := func(t *testing.T, scheme string, auth tls.ClientAuthType) *scriptedBroker {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return scriptedBrokerAt(t, scheme, tls.NewListener(ln, &tls.Config{
			Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: auth, NextProtos: []string{"mqtt"},
		}))
	}
	trusted := fmt.Sprintf("tls: { enabled: true, root_cas_file: %q }\n", ca.file)

	t.Run("by scheme and setting", func(t *testing.T) {
		for _, scheme := range []string{"mqtts://", "ssl://", "tcp://"} {
			b := listen(t, scheme, tls.NoClientCert)
			roundTrip(t, b, testInput(t, b, trusted))
		}
	})
	t.Run("ALPN", func(t *testing.T) {
		b := listen(t, "mqtts://", tls.NoClientCert)
		c := roundTrip(t, b, testInput(t, b, trusted+"alpn: [ mqtt ]"))
		assert.Equal(t, "mqtt", c.raw.(*tls.Conn).ConnectionState().NegotiatedProtocol)
	})
	t.Run("client certificate", func(t *testing.T) {
		b := listen(t, "mqtts://", tls.RequireAndVerifyClientCert)
		c := roundTrip(t, b, testInput(t, b, fmt.Sprintf("tls: { enabled: true, root_cas_file: %q, client_certs: [ { cert_file: %q, key_file: %q } ] }", ca.file, certFile, keyFile)))
		assert.Equal(t, "worker", c.raw.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName)
	})
	t.Run("unknown authority", func(t *testing.T) {
		b := listen(t, "mqtts://", tls.NoClientCert)
		in := testInput(t, b, "")
		errs := make(chan error, 1)
		go func() { errs <- in.Connect(t.Context()) }()
		c := <-b.conns
		require.Error(t, c.(*tls.Conn).HandshakeContext(t.Context()))
		require.ErrorContains(t, <-errs, "certificate signed by unknown authority")
	})
}

func TestWebSocket(t *testing.T) {
	b := &scriptedBroker{t: t, conns: make(chan net.Conn, 1)}
	paths := make(chan string, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		paths <- ws.Subprotocol() + " " + r.URL.RequestURI()
		b.conns <- &wsConn{Conn: ws}
	})
	t.Run("plain", func(t *testing.T) {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		b.t, b.url = t, strings.Replace(server.URL, "http", "ws", 1)
		roundTrip(t, b, testInput(t, b, ""))
		assert.Equal(t, "mqtt /mqtt", <-paths)
	})
	t.Run("encrypted, with a path", func(t *testing.T) {
		server := httptest.NewTLSServer(handler)
		t.Cleanup(server.Close)
		ca := filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
		b.t, b.url = t, strings.Replace(server.URL, "http", "ws", 1)+"/farm/mqtt?site=1"
		roundTrip(t, b, testInput(t, b, fmt.Sprintf("tls: { enabled: true, root_cas_file: %q }", ca)))
		assert.Equal(t, "mqtt /farm/mqtt?site=1", <-paths)
	})
	t.Run("not a WebSocket", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		b.t, b.url = t, strings.Replace(server.URL, "http", "ws", 1)
		in := testInput(t, b, "")
		require.ErrorContains(t, in.Connect(t.Context()), "HTTP status 404 Not Found")
	})
}
