package statetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

const childEnv = "COVE_STATETEST"

// Child does a child process's part when this process is one, and exits. A
// back end's TestMain calls it first.
func Child(again func(path string, timeout time.Duration) state.Store) {
	role, path, _ := strings.Cut(os.Getenv(childEnv), ":")
	if role == "" {
		return
	}
	s := again(path, 10*time.Minute)
	if err := childMain(role, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childMain(role string, s state.Store) error {
	role, arg, _ := strings.Cut(role, "=")
	n, _ := strconv.Atoi(arg)
	switch role {
	case "grow": // n transactions, telling each when it is durable
		for range n {
			i, err := Grow(s)
			if err != nil {
				return err
			}
			fmt.Println(i)
		}
		return nil
	case "hold": // hold a write transaction until killed
		return s.Update(func(tx state.Tx) error {
			fmt.Println("held")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		})
	case "read": // read until killed, in short views
		for {
			err := s.View(func(tx state.Tx) error {
				time.Sleep(2 * time.Millisecond)
				return tx.List(state.Containers, func(string, []byte) error { return nil })
			})
			if err != nil {
				return err
			}
		}
	case "limit": // grow under a file size limit of n bytes until it fails
		signal.Ignore(unix.SIGXFSZ)
		lim := unix.Rlimit{Cur: uint64(n), Max: uint64(n)}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
			return err
		}
		for range 10000 {
			i, err := Grow(s)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				if !cove.Is(err, cove.Unavailable) {
					return fmt.Errorf("wrong kind %d: %w", cove.KindOf(err), err)
				}
				return nil
			}
			fmt.Println(i)
		}
		return errors.New("the limit was never met")
	}
	return errors.New("unknown role " + role)
}

// Grow adds one object with everything that belongs to it in one transaction.
func Grow(s state.Store) (i uint64, err error) {
	return i, s.Update(func(tx state.Tx) error {
		i, err = grow(tx)
		return err
	})
}

func grow(tx state.Tx) (i uint64, err error) {
	if i, err = tx.Next("objects"); err != nil {
		return i, err
	}
	id := fmt.Sprintf("%08d", i)
	c := container(id)
	c.CommandLine = []string{strings.Repeat("x", 500)}
	if err := tx.Put(state.Containers, id, c); err != nil {
		return i, err
	}
	if err := tx.Claim(state.Containers, c.Name, id); err != nil {
		return i, err
	}
	_, err = tx.Lease("n", growNet, growNet.Addr().Next(), netip.MustParseAddr("10.15.255.254"), netip.Addr{}, nil, id)
	return i, err
}

var growNet = netip.MustParsePrefix("10.0.0.0/12")

// Whole checks that every object of Grow is there in full, and that there are
// as many as the sequence says; it gives their number.
func Whole(t testing.TB, s state.Store) uint64 {
	t.Helper()
	var records, names, leases, seq uint64
	view(t, s, func(tx state.Tx) error {
		return errors.Join(
			tx.List(state.Containers, func(id string, raw []byte) error {
				records++
				if id != fmt.Sprintf("%08d", records) || !bytes.HasSuffix(raw, []byte("}")) {
					t.Errorf("record %s is number %d", id, records)
				}
				return nil
			}),
			tx.Names(state.Containers, func(string, string) error { names++; return nil }),
			tx.Leases("n", func(netip.Addr, string) error { leases++; return nil }))
	})
	undo := errors.New("undo")
	err := s.Update(func(tx state.Tx) (err error) {
		seq, err = tx.Next("objects")
		return errors.Join(err, undo)
	})
	if !errors.Is(err, undo) {
		t.Error(err)
	}
	seq--
	if records != names || records != leases || records != seq {
		t.Errorf("half a transaction: %d records, %d names, %d leases, sequence at %d", records, names, leases, seq)
	}
	return records
}

// sameMoment checks that one view of a growing store shows no object by half.
func sameMoment(t testing.TB, s state.Store) {
	t.Helper()
	var records, names, leases int
	view(t, s, func(tx state.Tx) error {
		return errors.Join(
			tx.Leases("n", func(netip.Addr, string) error { leases++; return nil }),
			tx.List(state.Containers, func(string, []byte) error { records++; return nil }),
			tx.Names(state.Containers, func(string, string) error { names++; return nil }))
	})
	if records != names || records != leases {
		t.Errorf("a view shows %d records, %d names and %d leases", records, names, leases)
	}
}

func child(t testing.TB, role, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), childEnv+"="+role+":"+path)
	c.Stderr = os.Stderr
	return c
}

func testFirstUse(t *testing.T, b Backend) {
	path := filepath.Join(t.TempDir(), "a", "b", "state")
	s := b.Again(path, time.Minute)
	view(t, s, func(tx state.Tx) error { return nil })
	if _, err := os.Stat(path); err == nil {
		t.Error("a view made the file")
	}
	// Many at once: one makes the file, all use it.
	const n = 16
	var cmds []*exec.Cmd
	for range n {
		c := child(t, "grow=1", path)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, c)
	}
	for _, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	if got := Whole(t, s); got != n {
		t.Errorf("%d objects", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != "state" && !slices.Contains(b.Beside, strings.TrimPrefix(e.Name(), "state")) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func testProcesses(t *testing.T, b Backend) {
	s := b.Open(t)
	const workers, each = 64, 5
	if _, err := Grow(s); err != nil { // the file exists
		t.Fatal(err)
	}
	start := time.Now()
	var slowest time.Duration
	type done struct {
		err  error
		took time.Duration
	}
	ends := make(chan done, workers)
	for range workers {
		c := child(t, fmt.Sprintf("grow=%d", each), s.Path())
		go func() { err := c.Run(); ends <- done{err, time.Since(start)} }()
	}
	views := 0
	for left := workers; left > 0; {
		select {
		case d := <-ends:
			left--
			if d.err != nil {
				t.Error(d.err)
			}
			slowest = max(slowest, d.took)
		default:
			sameMoment(t, s)
			views++
		}
	}
	t.Logf("%d views meanwhile", views)
	if got := Whole(t, s); got != workers*each+1 {
		t.Errorf("%d objects, want %d", got, workers*each+1)
	}
	t.Logf("%d processes, %d updates each: all done after %s", workers, each, slowest)
}

// hold starts a child inside a write transaction and gives its end.
func hold(t testing.TB, path string) (kill func()) {
	t.Helper()
	c := child(t, "hold", path)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	return func() { _ = c.Process.Kill(); _ = c.Wait(); _ = in.Close() }
}

func testDeadline(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error { return nil })
	kill := hold(t, s.Path())
	impatient := b.Again(s.Path(), 60*time.Millisecond)
	for what, run := range map[string]func(func(state.Tx) error) error{"view": impatient.View, "update": impatient.Update} {
		start := time.Now()
		err := run(func(state.Tx) error { t.Error("ran beside a writer"); return nil })
		wantKind(t, what+" behind a writer", err, cove.Unavailable)
		if took := time.Since(start); took < 50*time.Millisecond || took > time.Minute {
			t.Errorf("%s gave up after %s", what, took)
		}
	}
	// The writer dies: those that gave up must not be in the way.
	kill()
	update(t, b.Again(s.Path(), time.Minute), func(tx state.Tx) error { return nil })
}

// testWriterAmongReaders: readers that overlap all the time must not keep a
// writer out.
func testWriterAmongReaders(t *testing.T, b Backend) {
	s := b.Open(t)
	update(t, s, func(tx state.Tx) error { return nil })
	for range 8 {
		c := child(t, "read", s.Path())
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	}
	time.Sleep(100 * time.Millisecond)
	writer := b.Again(s.Path(), 2*time.Minute) // an update that is kept out fails after them
	var slowest time.Duration
	for range 20 {
		start := time.Now()
		update(t, writer, func(tx state.Tx) error { _, err := tx.Next("x"); return err })
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("slowest of 20 updates among 8 readers: %s", slowest)
}

// testKilled kills a writing child at random moments. What it was told to be
// durable must be there, and nothing by half.
func testKilled(t *testing.T, b Backend) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "state")
	var known uint64
	for round := range rounds {
		c := child(t, "grow=100000", path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := sync.OnceFunc(func() {
			time.AfterFunc(time.Duration(rand.IntN(80_000))*time.Microsecond, func() { _ = c.Process.Kill() })
		})
		if round%2 == 0 {
			kill() // in its beginnings, too
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				break // cut short by the kill
			}
			known = n
			kill()
		}
		_ = c.Wait()
		got := Whole(t, b.Again(path, time.Minute))
		if got < known || got > known+1 {
			t.Fatalf("%d objects after %d were durable", got, known)
		}
		known = got
	}
	if known == 0 {
		t.Error("every child was killed before its first transaction")
	}
}

// testKilledAtEachCall kills a child on entry to the n-th of each system call
// that changes files, beginning with the very first use of the store.
func testKilledAtEachCall(t *testing.T, b Backend) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	// Probe: ptrace may be forbidden.
	if exec.Command(strace, "-o", "/dev/null", "true").Run() != nil {
		t.Skip("strace cannot trace here")
	}
	most := 40 // more than four transactions make of any
	if testing.Short() {
		most = 3
	}
	for _, call := range []string{"pwrite64", "fdatasync", "fsync", "ftruncate", "flock", "linkat", "mmap", "munmap", "openat", "fallocate", "unlinkat"} {
		path := filepath.Join(t.TempDir(), "state")
		kills := 0
		for n := 1; n <= most; n++ {
			c := child(t, "grow=4", path)
			c.Args = append([]string{strace, "-f", "-o", "/dev/null", "-e", "trace=" + call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n)}, c.Path)
			c.Path, c.Stderr = strace, nil
			var out bytes.Buffer
			c.Stdout = &out
			before := uint64(0)
			if _, err := os.Stat(path); err == nil {
				before = Whole(t, b.Again(path, time.Minute))
			}
			killed := c.Run() != nil
			told := uint64(bytes.Count(out.Bytes(), []byte("\n")))
			got := Whole(t, b.Again(path, time.Minute))
			if got < before+told || got > before+told+1 {
				t.Errorf("killed at %s number %d: %d objects, %d before and %d told", call, n, got, before, told)
			}
			if !killed {
				break // there is no such call any more
			}
			kills++
		}
		t.Logf("%s: %d kills", call, kills)
	}
}
