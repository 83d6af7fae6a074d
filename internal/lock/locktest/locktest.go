// Package locktest is the suite that every lock manager passes.
package locktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
)

const childEnv = "COVE_LOCKTEST"

// Child does a child process's part when this process is one, and exits. A
// manager's TestMain calls it first with the same open as [Run].
func Child(open func(dir string) lock.Manager) {
	args := strings.Split(os.Getenv(childEnv), ":")
	if len(args) < 3 {
		return
	}
	n, _ := strconv.Atoi(args[1])
	if err := childMain(args[0], n, open(args[2]), args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childMain(role string, n int, m lock.Manager, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	switch role {
	case "hold":
		if _, err := m.Lock(ctx, lock.Container, "a"); err != nil {
			return err
		}
		fmt.Println("held")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "count": // n times: read, add one, write; tell the longest wait
		var longest time.Duration
		for range n {
			start := time.Now()
			h, err := m.Lock(ctx, lock.Container, "a")
			if err != nil {
				return err
			}
			longest = max(longest, time.Since(start))
			if err := count(filepath.Join(dir, "counter")); err != nil {
				return err
			}
			if err := h.Unlock(); err != nil {
				return err
			}
		}
		fmt.Println(longest.Microseconds())
		return nil
	}
	return errors.New("unknown role " + role)
}

// count adds one to the number in a file, as slowly as it can.
func count(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return err
	}
	time.Sleep(200 * time.Microsecond)
	return os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600)
}

// Run runs the suite. open gives a manager that keeps what it needs in dir;
// several managers on one dir, in several processes, are one set of locks.
// Objects exist without being made.
func Run(t *testing.T, open func(dir string) lock.Manager) {
	t.Run("exclusion", func(t *testing.T) { testExclusion(t, open) })
	t.Run("goroutines", func(t *testing.T) { testGoroutines(t, open) })
	t.Run("deadline", func(t *testing.T) { testDeadline(t, open) })
	t.Run("killed", func(t *testing.T) { testKilled(t, open) })
	t.Run("many objects", func(t *testing.T) { testMany(t, open) })
	t.Run("64 processes", testProcesses)
	t.Run("forgotten", func(t *testing.T) { testForgotten(t, open) })
	t.Run("order", func(t *testing.T) { testOrder(t, open) })
}

func mustLock(t testing.TB, m lock.Manager, k lock.Kind, id string) lock.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	h, err := m.Lock(ctx, k, id)
	if err != nil {
		t.Fatalf("Lock %s %s: %v", k, id, err)
	}
	return h
}

func unlock(t testing.TB, h lock.Held) {
	t.Helper()
	if err := h.Unlock(); err != nil {
		t.Error(err)
	}
}

func testExclusion(t *testing.T, open func(string) lock.Manager) {
	dir := t.TempDir()
	m, other := open(dir), open(dir)
	ctx := context.Background()
	h := mustLock(t, m, lock.Container, "a")
	for name, m := range map[string]lock.Manager{"same": m, "other": other} {
		if _, err := m.TryLock(ctx, lock.Container, "a"); !cove.Is(err, cove.InUse) {
			t.Errorf("%s manager: second lock: %v", name, err)
		}
		unlock(t, mustLock(t, m, lock.Container, "b")) // another object
		unlock(t, mustLock(t, m, lock.Pod, "a"))       // another kind
	}
	unlock(t, h)
	unlock(t, h) // nothing
	if _, err := m.TryKnown(ctx, lock.Container, "never locked"); !cove.Is(err, cove.NoFile) {
		t.Errorf("one that is not known: %v", err)
	}
	if known, err := m.Known(); err != nil || len(known) != 3 {
		t.Errorf("known are %v, %v", known, err)
	}
	if h, err := other.TryKnown(ctx, lock.Container, "a"); err != nil {
		t.Error(err)
	} else {
		if _, err := m.TryKnown(ctx, lock.Container, "a"); !cove.Is(err, cove.InUse) {
			t.Errorf("one that is known and held: %v", err)
		}
		unlock(t, h)
	}
	g, err := other.TryLock(ctx, lock.Container, "a")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	go func() { unlock(t, mustLock(t, m, lock.Container, "a")); close(waiting) }()
	select {
	case <-waiting:
		t.Error("locked twice")
	case <-time.After(50 * time.Millisecond):
	}
	unlock(t, g)
	<-waiting
}

func testGoroutines(t *testing.T, open func(string) lock.Manager) {
	m := open(t.TempDir())
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond+10*time.Second*time.Duration(i%2))
				h, err := m.Lock(ctx, lock.Container, "a")
				cancel()
				if err != nil {
					if !cove.Is(err, cove.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					continue
				}
				if inside.Add(1) != 1 {
					t.Error("two inside")
				}
				inside.Add(-1)
				unlock(t, h)
			}
		})
	}
	wg.Wait()
	unlock(t, mustLock(t, m, lock.Container, "a"))
}

// child starts a process; line gives the first line it says.
func child(t testing.TB, role string, n int, dir string) (c *exec.Cmd, line func() string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c = exec.Command(self)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d:%s", childEnv, role, n, dir))
	c.Stderr = os.Stderr
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, func() string {
		s, _ := bufio.NewReader(out).ReadString('\n')
		return strings.TrimSpace(s)
	}
}

func testDeadline(t *testing.T, open func(string) lock.Manager) {
	dir := t.TempDir()
	m := open(dir)
	c, line := child(t, "hold", 0, dir)
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if got := line(); got != "held" {
		t.Fatalf("child said %q", got)
	}
	for range 5 { // each time-out leaves its place to the next
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		start := time.Now()
		_, err := m.Lock(ctx, lock.Container, "a")
		cancel()
		if !cove.Is(err, cove.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind another process: %v", err)
		}
		if took := time.Since(start); took < 15*time.Millisecond || took > time.Minute {
			t.Errorf("gave up after %s", took)
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	// The abandoned wait is adopted, or gone; either way the lock is free.
	unlock(t, mustLock(t, m, lock.Container, "a"))
	unlock(t, mustLock(t, open(dir), lock.Container, "a"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Lock(ctx, lock.Container, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func testKilled(t *testing.T, open func(string) lock.Manager) {
	dir := t.TempDir()
	m := open(dir)
	for i := range 6 {
		c, line := child(t, "hold", 0, dir)
		if got := line(); got != "held" {
			t.Fatalf("child said %q", got)
		}
		if i%2 == 1 { // stopped first: it holds the lock until it is killed
			if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := m.TryLock(context.Background(), lock.Container, "a"); !cove.Is(err, cove.InUse) {
			t.Errorf("held by a child: %v", err)
		}
		got := make(chan lock.Held)
		go func() { got <- mustLock(t, m, lock.Container, "a") }()
		time.Sleep(10 * time.Millisecond)
		_ = c.Process.Kill()
		unlock(t, <-got)
		_ = c.Wait()
	}
}

// testForgotten: what is known of objects, and that a lock can be had after
// its object was forgotten, also by who has waited for it then.
func testForgotten(t *testing.T, open func(string) lock.Manager) {
	dir := t.TempDir()
	m, other := open(dir), open(dir)
	if known, err := m.Known(); err != nil || len(known) != 0 {
		t.Errorf("nothing was locked: %v, %v", known, err)
	}
	objects := []lock.Object{{Kind: lock.Container, ID: "a"}, {Kind: lock.Network, ID: "with-a-dash"}, {Kind: lock.Volume, ID: "a"}}
	for _, o := range objects {
		unlock(t, mustLock(t, m, o.Kind, o.ID))
	}
	known, err := other.Known()
	slices.SortFunc(known, func(a, b lock.Object) int { return strings.Compare(a.Kind.String(), b.Kind.String()) })
	if err != nil || !slices.Equal(known, objects) {
		t.Errorf("known: %v, %v; want %v", known, err, objects)
	}
	h := mustLock(t, m, lock.Container, "a")
	waiting := make(chan struct{})
	go func() { unlock(t, mustLock(t, other, lock.Container, "a")); close(waiting) }()
	time.Sleep(20 * time.Millisecond)
	for range 2 { // the second time there is nothing to forget
		if err := m.Forget(lock.Container, "a"); err != nil {
			t.Error(err)
		}
	}
	unlock(t, h)
	<-waiting
	unlock(t, mustLock(t, m, lock.Container, "a"))
	if err := m.Renumber(objects[:2]); err != nil {
		t.Error(err)
	}
	for _, o := range objects {
		unlock(t, mustLock(t, m, o.Kind, o.ID))
	}
}

func testMany(t *testing.T, open func(string) lock.Manager) {
	m := open(t.TempDir())
	start := time.Now()
	var held []lock.Held
	for i := range 10000 {
		h := mustLock(t, m, lock.Container, fmt.Sprint(i))
		if i%20 == 0 { // some stay held
			held = append(held, h)
			continue
		}
		unlock(t, h)
	}
	t.Logf("%s per lock and unlock, %d held at once", time.Since(start)/10000, len(held))
	for _, h := range held {
		unlock(t, h)
	}
	for i := range 10000 {
		unlock(t, mustLock(t, m, lock.Container, fmt.Sprint(i)))
	}
}

// testProcesses: in turn, each waits for all others once, a twentieth of all; where there
// are few processors up to half. One that is passed over waits to the end, every time; one
// that a busy machine does not let run does so once.
func testProcesses(t *testing.T) {
	for try := 1; ; try++ {
		longest, total := contend(t)
		if longest <= total*3/4 {
			return
		}
		t.Logf("a process waited %s of %s", longest, total)
		if try == 5 {
			t.Fatal("processes are passed over")
		}
	}
}

// contend has processes lock by turns, and gives the longest wait of any and the time of all.
func contend(t *testing.T) (longest, total time.Duration) {
	t.Helper()
	dir := t.TempDir()
	counter := filepath.Join(dir, "counter")
	if err := os.WriteFile(counter, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	const workers, each = 64, 20
	start := time.Now()
	var waits []int
	var lines []func() string
	for range workers {
		c, line := child(t, "count", each, dir)
		defer func() { _ = c.Wait() }()
		lines = append(lines, line)
	}
	for _, line := range lines {
		us, err := strconv.Atoi(line())
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, us)
	}
	total = time.Since(start)
	raw, err := os.ReadFile(counter)
	if err != nil || string(raw) != fmt.Sprint(workers*each) {
		t.Errorf("counted %s, %v", raw, err)
	}
	slices.Sort(waits)
	t.Logf("%d processes, %d locks each in %s; longest waits: least %d us, median %d us, greatest %d us",
		workers, each, total, waits[0], waits[workers/2], waits[workers-1])
	return time.Duration(waits[workers-1]) * time.Microsecond, total
}

func testOrder(t *testing.T, open func(string) lock.Manager) {
	var said []string
	m := lock.NewOrdered(open(t.TempDir()), func(args ...any) { said = append(said, fmt.Sprint(args...)) })
	ctx := lock.Track(context.Background())
	take := func(k lock.Kind, id string) lock.Held {
		h, err := m.Lock(ctx, k, id)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	p, a, b, v := take(lock.Pod, "z"), take(lock.Container, "a"), take(lock.Container, "b"), take(lock.Volume, "a")
	unlock(t, a)
	if len(said) != 0 {
		t.Errorf("in order, but: %v", said)
	}
	a = take(lock.Container, "a") // b and v are held
	if len(said) != 2 || !strings.Contains(said[0], "container a is locked while container b is held") {
		t.Errorf("out of order: %v", said)
	}
	for _, h := range []lock.Held{p, a, b, v} {
		unlock(t, h)
	}
	said = nil
	unlock(t, take(lock.Pod, "a"))
	if len(said) != 0 {
		t.Errorf("all were released, but: %v", said)
	}
	// The state store's transactions come last, and not in each other; two
	// goroutines' wait for each other.
	ctx = context.Background()
	inOrder := func(write bool) { _ = m.Within(write, func() error { return nil }) }
	v = take(lock.Volume, "a")
	inOrder(true)
	inOrder(false)
	unlock(t, v)
	if len(said) != 0 {
		t.Errorf("transactions in order, but: %v", said)
	}
	_ = m.Within(true, func() error {
		unlock(t, take(lock.Volume, "a"))
		inOrder(false)
		inOrder(true)
		return nil
	})
	if len(said) != 3 {
		t.Errorf("in a transaction: %v", said)
	}
	said = nil
	_ = m.Within(true, func() error {
		done := make(chan struct{})
		go func() {
			defer close(done)
			inOrder(true)
			unlock(t, take(lock.Volume, "a"))
		}()
		<-done
		return nil
	})
	inOrder(true)
	if len(said) != 0 {
		t.Errorf("another goroutine's transaction: %v", said)
	}
}
