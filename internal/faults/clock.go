package faults

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// falseClock is the wall clock of a machine, for all programs that were built with its
// overlay of package time and have clockEnv in their environment: the true time and some
// seconds. The monotonic clock, which timers run by, stays as it is. So does a machine
// whose wall clock somebody sets.
type falseClock struct{ file string } // 8 bytes, the seconds

// clockEnv names a falseClock's file, overlayEnv what to build programs with.
const clockEnv, overlayEnv = "DSTREAM_FALSE_CLOCK", "DSTREAM_FALSE_OVERLAY"

// ownClock is that of this process, if it has one.
func ownClock() *falseClock {
	if path := os.Getenv(clockEnv); path != "" {
		return &falseClock{file: path}
	}
	return nil
}

// jump sets the clock forward, or back.
func (c *falseClock) jump(by time.Duration) error {
	f, err := os.OpenFile(c.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	var b [8]byte
	_, err = f.ReadAt(b[:], 0) // a new file is empty
	if err == nil || errors.Is(err, io.EOF) {
		seconds := int64(binary.NativeEndian.Uint64(b[:])) + int64(by/time.Second)
		_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(seconds)), 0)
	}
	return errors.Join(err, f.Close())
}

// clockFaults are jumps of the clock. They stay: nothing undoes them.
func (s *System) clockFaults() (all []Fault) {
	if s.clock == nil {
		return nil
	}
	for name, by := range map[string]time.Duration{"clock two hours back": -2 * time.Hour, "clock one day forward": 24 * time.Hour} {
		all = append(all, Fault{Name: name, Do: func(context.Context, *System, *rand.Rand) (func() error, error) {
			return func() error { return nil }, s.clock.jump(by)
		}})
	}
	return all
}

// The overlay: time.Now with falseSeconds in it, and where they come from.
const (
	trueNow  = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	falseNow = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += falseSeconds()\n"
	falseGo  = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var falseClock *int64

func init() {
	path, ok := syscall.Getenv("` + clockEnv + `")
	if !ok || path == "" {
		return
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("false clock: " + path + ": " + err.Error())
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("false clock: " + path + ": " + err.Error())
	}
	falseClock = (*int64)(unsafe.Pointer(&b[0]))
}

func falseSeconds() int64 {
	if falseClock == nil {
		return 0
	}
	return atomic.LoadInt64(falseClock)
}
`
)

// writeOverlay writes the files of the overlay into dir, and gives that for -overlay.
func writeOverlay(ctx context.Context, dir string) (string, error) {
	if runtime.GOOS != "linux" {
		return "", errors.New("needs Linux")
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	pkg := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	b, err := os.ReadFile(filepath.Join(pkg, "time.go"))
	if err != nil {
		return "", err
	}
	if strings.Count(string(b), trueNow) != 1 {
		return "", fmt.Errorf("faults: time.Now of this Go is not known: %s", filepath.Join(pkg, "time.go"))
	}
	files := map[string]string{"time.go": strings.Replace(string(b), trueNow, falseNow, 1), "false.go": falseGo}
	replace := map[string]string{}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(pkg, name)] = path
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}
