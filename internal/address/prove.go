package address

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The proof. The asking process creates an empty file in the directory, with a new name
// of three parts. The first part is the question; the asking process sends the second
// part to the host; only processes that can list the directory know the third. The host
// lists the directory that it holds, wherever that is now, finds the file by its second
// part, and answers with its own address, signed with the third part. So a process
// between the two, at a copied or forged address, cannot pass the answer on: the signed
// address is not its own. The name carries the content, since a full disk accepts an
// empty file longer than a file with one byte.
const (
	askJoin = "join" // show that you host this directory
	askEnd  = "end"  // and end: who can write in the directory may ask for it

	proveTime = 2 * time.Second // for the whole exchange
	proveLine = 4 << 10         // the most that either side reads
)

type question struct {
	Ask string `json:"ask"`
	ID  string `json:"id"`
}

// Answer is a host's description of itself in a proof.
type Answer struct {
	URL      string `json:"url"`
	ServerID string `json:"server_id"`
	Log      string `json:"log"` // its identity
	PID      int    `json:"pid"`
}

type signed struct {
	Answer
	MAC string `json:"mac"`
}

// sign binds an answer to a file's secret part, and to the question.
func (a Answer) sign(ask, secret string) string {
	b, _ := json.Marshal(a) // strings and a number
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("dstream " + ask + "\n")) // a hash takes everything
	_, _ = mac.Write(b)
	return hex.EncodeToString(mac.Sum(nil))
}

// prove asks the host at a to show that it sees dir.
func prove(dir string, a Address) (Host, error) {
	answer, err := ask(dir, a.Prove, askJoin)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) {
		return Host{Address: a}, nil // reads go on where a disk is full: lock and ownership hold
	}
	if err != nil {
		return Host{}, err
	}
	if answer.URL != a.URL || answer.ServerID != a.ServerID {
		return Host{}, fmt.Errorf("%s: the host is at %s now: %w", a.URL, answer.URL, ErrUnproven)
	}
	return Host{Address: a, Log: answer.Log, Proven: true}, nil
}

// End asks the host of dir to end, and returns when it has said that it will.
func End(dir string) error {
	a, err := Read(filepath.Join(dir, "address"))
	if err != nil {
		return err
	}
	if a.Prove == "" {
		return fmt.Errorf("the host is of an earlier version, and cannot be asked to end: %w", errors.ErrUnsupported)
	}
	_, err = ask(dir, a.Prove, askEnd)
	return err
}

// ask creates the file, asks the process at to, and checks the answer.
func ask(dir, to, what string) (Answer, error) {
	host, _, err := net.SplitHostPort(to)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return Answer{}, fmt.Errorf("%q, where the host is to prove itself, is not on this machine: %w", to, ErrUnproven)
	}
	id, secret := rand.Text(), rand.Text()
	file := filepath.Join(dir, strings.Join([]string{what, id, secret}, "."))
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Answer{}, fmt.Errorf("address: a file by which the host proves itself cannot be made: %w", err)
	}
	defer os.Remove(file) // what stays is removed by the host
	_ = f.Close()         // nothing was written
	conn, err := net.DialTimeout("tcp", to, proveTime)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close() //nolint:errcheck // all was read
	_ = conn.SetDeadline(time.Now().Add(proveTime))
	if err := json.NewEncoder(conn).Encode(question{what, id}); err != nil {
		return Answer{}, fmt.Errorf("%s: %w: %w", to, ErrUnproven, err)
	}
	var got signed
	line, err := bufio.NewReader(io.LimitReader(conn, proveLine)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &got)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w: %w", to, ErrUnproven, err)
	}
	if !hmac.Equal([]byte(got.MAC), []byte(got.sign(what, secret))) {
		return Answer{}, fmt.Errorf("%s: %w", to, ErrUnproven)
	}
	return got.Answer, nil
}
