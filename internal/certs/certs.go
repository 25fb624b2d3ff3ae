// Package certs reads a server's TLS certificate.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"
)

// Load reads a certificate, its key, and the authorities, if any, that clients are checked by. The result is for a server's side of clients and of routes.
func Load(certFile, keyFile, caFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("the TLS certificate %s and key %s cannot be used: %w", certFile, keyFile, err)
	}
	if err := inTime(certFile, cert.Leaf, time.Now()); err != nil {
		return nil, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("the TLS authorities cannot be read: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the TLS authorities: %s holds no certificate in PEM form", caFile)
	}
	cfg.ClientCAs, cfg.ClientAuth = cfg.RootCAs, tls.VerifyClientCertIfGiven
	return cfg, nil
}

// inTime refuses a certificate that nobody would take today.
func inTime(path string, cert *x509.Certificate, now time.Time) error {
	var word string
	switch {
	case now.Before(cert.NotBefore):
		word = "is not valid yet"
	case now.After(cert.NotAfter):
		word = "has expired"
	default:
		return nil
	}
	return fmt.Errorf("the TLS certificate %s %s: it is valid from %s to %s, and it is %s now: make another one (dstream keys tls), or set this machine's clock",
		path, word, cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}
