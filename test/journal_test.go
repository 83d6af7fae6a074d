package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// journald is systemd's journal, run without systemd.
const journald = "/lib/systemd/systemd-journald"

// cmdJournal starts a journal of the script's own, and ends it: in a mount
// namespace where its sockets and files are, and which goes with it. The command
// "within" runs a command there.
func cmdJournal(ts *testscript.TestScript, neg bool, args []string) {
	h := houseOf(ts)
	switch {
	case neg || len(args) != 1:
		ts.Fatalf("usage: journal start|end")
	case args[0] == "end" && h.journal != nil:
		h.journal()
	case args[0] == "start":
		ts.Check(h.startJournal())
	}
}

func (h *house) startJournal() error {
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `
		mkdir -p /run/systemd /run/log
		mount -t tmpfs none /run/systemd; mount -t tmpfs none /run/log; mkdir /run/systemd/journal
		exec `+journald)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := false
	h.journal = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	h.closed = append(h.closed, h.journal)
	pid := strconv.Itoa(cmd.Process.Pid)
	in := "#!/bin/sh\nexec nsenter -t " + pid + " --mount sh -c 'cd \"$0\" && exec \"$@\"' \"$PWD\" \"$@\"\n"
	if err := writeProgram(filepath.Join(h.work, ".bin", "within"), in); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat("/proc/" + pid + "/root/run/systemd/journal/socket"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not come up", journald)
}
