package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// A CRIU that has lost its driver and ended the container is waited for as long as it lives:
// the checkpoint is complete then.
func TestCRIUIsAwaited(t *testing.T) {
	m := looping(t)
	dir := t.TempDir()
	f, err := runfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.record = f
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ended.Wait() }()
	if m.init.pidfd, err = unix.PidfdOpen(ended.Process.Pid, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.init.pidfd)
	for deadline := time.Now().Add(10 * time.Second); !m.initEnded(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("true does not end")
		}
	}
	images := wire.Images{Dir: filepath.Join(dir, "checkpoint"), Work: filepath.Join(dir, "criu")}
	for _, name := range []string{images.Dir + drive.Unfinished + "/inventory.img", images.Work + "/stats-dump"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	turn, err := drive.Turn(dir, 0) // CRIU has it
	if err != nil {
		t.Fatal(err)
	}
	m.dump = &dump{client: &client{m: m, fd: -1, spill: -1}, body: wire.CheckpointBody{Images: images}, until: time.Now().Add(-time.Second)}
	m.awaitCRIU(m.dump)
	if m.dump == nil {
		t.Fatal("it was given up")
	}
	_ = unix.Close(turn)
	for m.dump != nil {
		m.step()
	}
	if _, err := os.Lstat(images.Dir + "/inventory.img"); err != nil || !m.dumped {
		t.Errorf("checkpointed: %t; %v", m.dumped, err)
	}
}

// Another checkpoint's turn comes with its request to an aide, which still waits for a CRIU that
// has ended by then: that one is over, instead of being waited for by the aide that has the turn.
// Its client hears that it was made, by the command that has asked for the other one, too.
func TestTurnEndsLostDump(t *testing.T) {
	for name, keep := range map[string]bool{"the aide's to keep": false, "kept": true} {
		t.Run(name, func(t *testing.T) { turnEndsLostDump(t, keep) })
	}
}

func turnEndsLostDump(t *testing.T, keep bool) {
	m := looping(t)
	dir := t.TempDir()
	m.env.Init, m.foreign, m.init = &wire.Process{}, true, child{pid: os.Getpid(), pidfd: -1, socket: -1}
	m.env.Foreign = &wire.Foreign{Runtime: []string{"false"}, Dir: dir}
	var err error
	if m.init.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.init.pidfd)
	images := wire.Images{Dir: filepath.Join(dir, "checkpoint"), Work: filepath.Join(dir, "criu")}
	for _, name := range []string{images.Dir + drive.Unfinished + "/inventory.img", images.Work + "/stats-dump"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var first, other [2]int
	for _, pair := range []*[2]int{&first, &other} {
		if *pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
	}
	lost := &dump{client: &client{m: m, fd: first[0], spill: -1}, body: wire.CheckpointBody{Images: images, Leave: true}, until: time.Now().Add(time.Minute)}
	m.dump = lost
	m.health.running = &execution{} // the other one goes on waiting
	turn, err := drive.Turn(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(turn)
	if keep {
		if err := drive.Keep(images.Dir); err != nil {
			t.Fatal(err)
		}
		if err := drive.Anew(images.Work); err != nil {
			t.Fatal(err)
		}
	}
	m.startDump(&dump{client: &client{m: m, fd: other[0], spill: -1}, body: wire.CheckpointBody{Images: images}, plan: -1, turn: turn}, time.Now().Add(time.Minute))
	if m.dump != nil {
		t.Error("it is waited for")
	}
	if _, err := os.Lstat(images.Dir + "/inventory.img"); err != nil {
		t.Error(err)
	}
	if kind, _, _, err := wire.Receive(first[1], make([]byte, 4096)); err != nil || kind != wire.Ack {
		t.Errorf("its client hears %v, %v", kind, err)
	}
	m.awaitCRIU(lost) // which was due
}

// A request that is none is answered.
func TestMalformedCheckpoint(t *testing.T) {
	m := looping(t)
	m.env.Init = &wire.Process{}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	c := &client{m: m, fd: pair[0], spill: -1}
	if c.handle(wire.Checkpoint, []byte("{}"), nil) {
		t.Error("it has taken what did not come")
	}
	buf := make([]byte, 4096)
	if err := unix.SetNonblock(pair[1], true); err != nil {
		t.Fatal(err)
	}
	if kind, _, _, err := wire.Receive(pair[1], buf); err != nil || kind != wire.Failed {
		t.Errorf("%v, %v; want that it failed", kind, err)
	}
}
