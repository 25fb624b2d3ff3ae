package roles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The files of MakeTLS, in its directory.
const (
	CAFile     = "ca.pem"
	CAKeyFile  = "ca.key" // wanted again only for another certificate: keep it elsewhere
	CertFile   = "server.pem"
	CertKey    = "server.key"
	caYears    = 10
	certYears  = 2
	clockSkew  = time.Hour // of a machine whose clock is behind
	secretMode = 0o600
)

// MakeTLS makes a certificate for hosts, names or IP addresses, signed by an
// authority of its own: for tests and small clusters. It serves clients and both
// sides of routes. An authority that is in dir already signs it; no other file is
// ever overwritten (fs.ErrExist).
func MakeTLS(dir string, hosts []string) error {
	if len(hosts) == 0 {
		return errors.New("a certificate needs a host: a name or an IP address")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, caKey, err := authority(dir)
	if err != nil {
		return err
	}
	cert := template(hosts[0], certYears)
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return write(dir, CertFile, CertKey, cert, ca, key, caKey)
}

// authority reads the one in dir, or makes it.
func authority(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, CAFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		ca := template("Durable Stream", caYears)
		ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero = true, true, true
		ca.KeyUsage = x509.KeyUsageCertSign
		return ca, key, write(dir, CAFile, CAKeyFile, ca, ca, key, key)
	}
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, CAKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("the authority in %s has no key there to sign with: %w", dir, err)
	}
	certDER, _ := pem.Decode(certPEM)
	keyDER, _ := pem.Decode(keyPEM)
	if certDER == nil || keyDER == nil {
		return nil, nil, fmt.Errorf("%s and %s in %s must be in PEM form", CAFile, CAKeyFile, dir)
	}
	cert, err := x509.ParseCertificate(certDER.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", CAFile, err)
	}
	key, err := x509.ParseECPrivateKey(keyDER.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", CAKeyFile, err)
	}
	return cert, key, nil
}

func template(name string, years int) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.AddDate(years, 0, 0),
	}
}

// write signs a certificate and writes it and its key, in two new files.
func write(dir, certFile, keyFile string, cert, signer *x509.Certificate, key, signerKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, signer, &key.PublicKey, signerKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	err = writeNew(filepath.Join(dir, keyFile), secretMode, &pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, certFile), 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func writeNew(path string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, block), f.Sync(), f.Close())
}
