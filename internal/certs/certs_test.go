package certs

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCertificateInTime(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	require.NoError(t, inTime("s.pem", c, now))
	require.ErrorContains(t, inTime("s.pem", c, now.Add(2*time.Hour)), "s.pem has expired")
	require.ErrorContains(t, inTime("s.pem", c, now.Add(-2*time.Hour)), "s.pem is not valid yet")
}
