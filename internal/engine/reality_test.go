package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/oci/native"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/spec"
	"github.com/cove-engine/cove/internal/state"
)

// The machine has stopped while a container ran: whatever was on the disk by
// then, the end is called unknown, no difference is found, and whoever touches
// the container records it.
func TestMachineStopped(t *testing.T) {
	write := func(t *testing.T, e *Engine, c *cove.Container, run cove.Run) {
		f, err := runfile.Open(e.dir(c.ID))
		if err == nil {
			err = f.Write(&run, false)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, left := range map[string]func(*testing.T, *Engine, *cove.Container){
		"run file": func(t *testing.T, e *Engine, c *cove.Container) {
			write(t, e, c, cove.Run{Generation: 2, BootID: "an earlier one", PID: 1, Started: time.Now().Add(-1000 * time.Hour)})
		},
		"damaged run file": func(t *testing.T, e *Engine, c *cove.Container) {
			mustWrite(t, filepath.Join(e.dir(c.ID), runfile.Name), "cove-run, cut")
		},
		"the run file before": func(t *testing.T, e *Engine, c *cove.Container) {
			write(t, e, c, cove.Run{Generation: 1, BootID: "an earlier one", ExitCode: 3, Started: time.Now().Add(-2 * time.Hour), Finished: time.Now().Add(-time.Hour)})
		},
		"empty run file": func(t *testing.T, e *Engine, c *cove.Container) {
			mustWrite(t, filepath.Join(e.dir(c.ID), runfile.Name), "")
		},
		"no run file":  func(*testing.T, *Engine, *cove.Container) {},
		"no directory": func(_ *testing.T, e *Engine, c *cove.Container) { _ = os.RemoveAll(e.dir(c.ID)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := engineWith(t)
			c := stored(t, e, "a", func(c *cove.Container) { c.Run.Generation, c.Run.BootID = 2, "an earlier one" })
			left(t, e, c)
			check := func(now Container, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if now.Status != cove.Exited || now.Run.Exit != exitUnknown || now.Run.ExitCode != -1 || now.Run.PID != 0 {
					t.Errorf("is %s, exit %q %d, pid %d; want exited, unknown -1, 0", now.Status, now.Run.Exit, now.Run.ExitCode, now.Run.PID)
				}
				if since := time.Since(now.Run.Finished); since < 0 || since > time.Since(bootTime())+time.Minute {
					t.Errorf("ended %v ago", since)
				}
				if text := now.Run.Finished.String(); strings.Contains(text, "m=") {
					t.Errorf("ended at %s, by the clock of this process", text)
				}
			}
			check(e.look(c))
			if got := differences(t, e, false); len(got) > 0 {
				t.Errorf("found %s", strings.Join(got, ", "))
			}
			h, err := e.hold(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			h.release()
			now, err := e.look(c)
			if check(now, err); !now.Run.Down {
				t.Error("not recorded by whoever has touched it")
			}
		})
	}
}

// A container may end while it is looked at: its monitor, gone by the time that its
// lock is asked for, has recorded the exit after the file was read.
func TestEndsWhileLookedAt(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	ended := make(chan error, 1)
	go func() {
		for generation := range uint64(5000) {
			f, err := runfile.Open(e.dir(c.ID))
			if err == nil {
				err = unix.Flock(f.FD(), unix.LOCK_EX)
			}
			run := cove.Run{Generation: generation, BootID: procfs.BootID(), PID: 1, MonitorPID: 1, Started: time.Now()}
			if err == nil {
				err = f.Write(&run, false)
			}
			run.PID, run.ExitCode, run.Finished, run.Down = 0, 3, time.Now(), true
			if err == nil {
				err = f.Write(&run, false)
				f.Close()
			}
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for {
		now, err := e.look(c)
		if err != nil || now.Status == cove.Exited && now.Run.ExitCode != 3 {
			t.Errorf("is %s, exit %q %d, %v; want 3", now.Status, now.Run.Exit, now.Run.ExitCode, err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// Who waits for a container that goes with its end hears of the exit, though it has
// gone before they could ask its monitor.
func TestWaitForWhatGoes(t *testing.T) {
	for name, killed := range map[string]bool{"told": false, "monitor killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _ := engineWith(t)
			c := stored(t, e, "a", func(c *cove.Container) { c.Spec.Remove = true })
			f, err := runfile.Open(e.dir(c.ID))
			if err == nil {
				err = unix.Flock(f.FD(), unix.LOCK_EX)
			}
			run := cove.Run{Generation: 1, BootID: procfs.BootID(), PID: 1, Started: time.Now()}
			if err == nil {
				err = f.Write(&run, false)
			}
			if err != nil {
				t.Fatal(err)
			}
			code := make(chan int, 1)
			go func() {
				got, err := e.Wait(t.Context(), c.ID, WaitOptions{})
				if err != nil {
					t.Error(err)
				}
				code <- got
			}()
			awaitOpened(t, filepath.Join(e.dir(c.ID), runfile.Name))
			if err := os.Rename(e.dir(c.ID), e.removedDir(c.ID)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // it looks every 250
			want := lostCode
			if !killed {
				want, run.PID, run.ExitCode = 3, 0, 3
				if err := f.Write(&run, false); err != nil {
					t.Fatal(err)
				}
			}
			f.Close()
			if got := <-code; got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

// awaitOpened waits until this process has a file open twice: the test and whom it is about.
func awaitOpened(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		names, err := opened(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		times := 0
		for _, n := range names {
			if n == name {
				times++
			}
		}
		if times > 1 {
			return
		}
	}
	t.Fatalf("%s is not opened", name)
}

// A start that was cut short in this boot has changed nothing.
func TestStartCutShort(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", func(c *cove.Container) { c.Run.Generation, c.Run.BootID = 1, procfs.BootID() })
	if now, err := e.look(c); err != nil || now.Status != cove.Created || now.Run.Exit != "" {
		t.Errorf("is %s, exit %q, %v; want created", now.Status, now.Run.Exit, err)
	}
	left := filepath.Dir(e.socket(c.ID))
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	// Who only looks at it takes down what is left, too.
	now, err := e.look(c)
	if err != nil || !e.heal(t.Context(), &now) || exists(left) {
		t.Errorf("%v, what the start has left is there: %v; want it gone", err, exists(left))
	}
	if now, err = e.look(c); err != nil || now.Status != cove.Created || now.unsettled() {
		t.Errorf("is %s, unsettled %v, %v; want created, settled", now.Status, now.unsettled(), err)
	}
	// Nor has one that follows a run which has ended and was taken down.
	c = stored(t, e, "b", func(c *cove.Container) { c.Run.Generation, c.Run.BootID = 2, procfs.BootID() })
	f, err := runfile.Open(e.dir(c.ID))
	if err == nil {
		err = f.Write(&cove.Run{Generation: 1, BootID: procfs.BootID(), Started: time.Now(), Finished: time.Now(), ExitCode: 3, Down: true}, false)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if now, err = e.look(c); err != nil || !e.heal(t.Context(), &now) {
		t.Errorf("%v, not healed", err)
	}
	if now, err = e.look(c); err != nil || now.Status != cove.Exited || now.Run.ExitCode != 3 || now.unsettled() {
		t.Errorf("is %s %d, unsettled %v, %v; want exited 3, settled", now.Status, now.Run.ExitCode, now.unsettled(), err)
	}
}

// A command killed after the record has made no directory, or not all of them.
func TestCreateCutShort(t *testing.T) {
	needRoot(t)
	for made, missing := range map[string][]string{"nothing": {""}, "its directory": {"diff", "work"}, "its layer": {"work"}} {
		t.Run(made, func(t *testing.T) {
			e, _ := engineWith(t)
			c := stored(t, e, "a", func(c *cove.Container) { c.Mounts = []cove.Mount{{Type: "volume", Source: "v", Destination: "/v"}} })
			inStore(t, e, func(tx state.Tx) error {
				return tx.Put(state.Volumes, "v", &cove.Volume{Schema: cove.Schema, Name: "v"})
			})
			for _, name := range missing {
				if err := os.RemoveAll(filepath.Join(e.dir(c.ID), name)); err != nil {
					t.Fatal(err)
				}
			}
			h, err := e.hold(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			h.release()
			for _, dir := range []string{filepath.Join(e.dir(c.ID), "diff"), filepath.Join(e.dir(c.ID), "work"), e.volumeData("v")} {
				if !exists(dir) {
					t.Errorf("%s is not there", dir)
				}
			}
		})
	}
}

// The --rm containers that have stopped with the machine go with the first
// write after it; others, and those that were only created, stay.
func TestRemoveAfterMachineStopped(t *testing.T) {
	e, _ := engineWith(t)
	passing := func(generation uint64, boot string) func(*cove.Container) {
		return func(c *cove.Container) {
			c.Spec.Remove, c.Run.Generation, c.Run.BootID = true, generation, boot
		}
	}
	gone := stored(t, e, "gone", passing(1, "an earlier one"))
	stored(t, e, "created", passing(0, ""))
	stored(t, e, "runs", passing(1, procfs.BootID()))
	stored(t, e, "kept", func(c *cove.Container) { c.Run.Generation, c.Run.BootID = 1, "an earlier one" })
	inStore(t, e, func(tx state.Tx) error { return tx.SetMeta(bootKey, []byte("an earlier one")) })
	if err := e.update(func(state.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"created", "runs", "kept"} {
		if _, err := e.find(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.find("gone"); !cove.Is(err, cove.NotFound) {
		t.Errorf("still there: %v", err)
	}
	if exists(e.dir(gone.ID)) {
		t.Error("its directory is still there")
	}
}

// TestJoinReused: the number of an ended container's process may be another's
// by now, whose namespaces are nobody's to join.
func TestJoinReused(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	pid := os.Getpid()
	start, err := procfs.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := runfile.Open(e.dir(c.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run := cove.Run{Generation: 1, BootID: procfs.BootID(), PID: pid, PIDStart: start - 1, MonitorPID: pid, Started: time.Now()}
	ended := run
	ended.Finished = time.Now()
	if err := f.Write(&ended, false); err != nil {
		t.Fatal(err)
	}
	for _, s := range []cove.ContainerSpec{{Network: "container:a"}, {PID: "container:a"}, {UTS: "container:a"}} {
		_, err := e.joined(&cove.Container{Spec: s}, &spec.Host{})
		wantKind(t, err, cove.WrongStatus, "it is not running")
	}
	// The monitor lives, the process has ended meanwhile.
	err = f.Write(&run, false)
	if err == nil {
		err = unix.Flock(f.FD(), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &launch{e: e, netns: -1}
	var h spec.Host
	if l.joined, err = e.joined(&cove.Container{Spec: cove.ContainerSpec{Network: "container:a"}}, &h); err != nil {
		t.Fatal(err)
	}
	err = l.handNamespaces([]native.Join{{Flag: unix.CLONE_NEWNET, Path: h.Joined["net"]}})
	wantKind(t, err, cove.WrongStatus, "has ended")
	for _, f := range l.files {
		_ = unix.Close(f.FD)
	}
}

// A run file names processes by numbers that may be others' by now: they are
// told apart by their start, and a monitor by what it holds open.
func TestPIDReused(t *testing.T) {
	for _, alive := range []bool{false, true} {
		e, _ := engineWith(t)
		c := stored(t, e, "a", nil)
		foreign := exec.CommandContext(t.Context(), "sleep", "1000")
		if err := foreign.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- foreign.Wait() }()
		start, err := procfs.StartTime(foreign.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		run := cove.Run{Generation: 1, BootID: procfs.BootID(), PID: foreign.Process.Pid, PIDStart: start - 1, MonitorPID: foreign.Process.Pid, Started: time.Now()}
		f, err := runfile.Open(e.dir(c.ID))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Write(&run, false); err != nil {
			t.Fatal(err)
		}
		now, err := e.look(c)
		if err != nil {
			t.Fatal(err)
		}
		if alive {
			// A monitor lives, whatever its number is.
			if err := unix.Flock(f.FD(), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			if now, err = e.look(c); err != nil || now.Status != cove.Running {
				t.Fatal(now.Status, err)
			}
			if err := e.signal(&now, unix.SIGKILL); !cove.Is(err, cove.WrongStatus) {
				t.Errorf("signal: %v", err)
			}
			if err := e.signalMonitor(&now, unix.SIGKILL); err != unix.ESRCH {
				t.Errorf("signal to the monitor: %v", err)
			}
		} else if now.Status != cove.Exited || now.Run.Exit != exitMonitorLost {
			t.Errorf("%s %q", now.Status, now.Run.Exit)
		}
		f.Close()
		if err := e.Remove(t.Context(), c.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			t.Error("somebody else's process has ended: ", err)
		case <-time.After(50 * time.Millisecond):
		}
		_ = foreign.Process.Kill()
	}
}
