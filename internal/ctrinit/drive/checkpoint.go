package drive

import (
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
)

// ImagePatience is how long a runtime may take to write or read the memory of a
// container: less than the engine waits for a start.
const ImagePatience = 9 * time.Minute

// Unfinished is the ending of the directory that images are written to before
// they take the place of the last checkpoint's.
const Unfinished = ".new"

// replaced is the ending of that of the images of the checkpoint before, which go.
const replaced = ".old"

// statistics is what CRIU writes last of a checkpoint, when the container's
// processes are gone or run on.
const statistics = "stats-dump"

func imageArgs(i *wire.Images, more ...string) []string {
	return append(append(more, "--image-path", i.Dir, "--work-path", i.Work), i.Args...)
}

// checkpoint has the runtime write the container's processes to images.
func (d *driver) checkpoint() *wire.Failure {
	written := *d.dump
	written.Dir += Unfinished
	err := rootfs.RemoveTree(written.Dir)
	if err == nil {
		err = rootfs.RemoveTree(written.Work)
	}
	for _, dir := range []string{written.Dir, written.Work} {
		if err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return wire.Fail("make the checkpoint's directories", err)
	}
	r := d.request("checkpoint", imageArgs(&written), ImagePatience, d.ID)
	r.turn = d.turn
	if f := r.do(); f != nil && !d.finished() {
		explain(f, written.Work+"/dump.log")
		// CRIU that was killed leaves the container frozen. It may have failed before that;
		// as long as the images are there the next command looks.
		if d.request("resume", nil, patience, d.ID).do() == nil {
			_ = Discard(d.dump.Dir)
		}
		return f
	}
	if err := Keep(d.dump.Dir); err != nil {
		return wire.Fail("keep the checkpoint", err)
	}
	if err := wire.SendJSON(control, wire.Ready, wire.ReadyBody{PID: d.init}); err != nil {
		return wire.Fail("report", err)
	}
	return nil
}

// finished waits for a CRIU whose runtime has failed, as it goes on without that, and
// tells whether it has made the checkpoint all the same.
func (d *driver) finished() bool {
	_ = unix.Close(d.turn) // CRIU has it, too
	var err error
	d.turn, err = Turn(path.Dir(d.dump.Dir), ImagePatience)
	return err == nil && Complete(d.dump.Dir, d.dump.Work)
}

// Turn waits until nobody makes a checkpoint of the container whose directory it
// is, for some time at most, and keeps others from it while the descriptor that it
// gives is open. EWOULDBLOCK: somebody does, be it a CRIU that has lost its runtime.
//
// Who only looks (Free) is in the way for a moment, so patience is more than that.
func Turn(dir string, patience time.Duration) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	deadline, looked := time.Now().Add(patience), time.Now()
	for ; ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR && (err != unix.EWOULDBLOCK || !time.Now().Before(deadline)) {
			_ = unix.Close(fd)
			return -1, err
		}
		if time.Since(looked) > OrphanWait {
			EndOrphans(dir)
			looked = time.Now()
		}
	}
}

// LookPatience is how long somebody who only looks may be in the way of who wants the turn.
const LookPatience = 30 * time.Millisecond

// Free tells whether nobody has the turn: nil; EWOULDBLOCK: somebody does. Those who look at
// the same time do not see each other.
func Free(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// OrphanWait is how often who waits for the turn looks for orphans.
const OrphanWait = time.Second

// EndOrphans kills what a killed CRIU has left behind of itself with the turn of the container
// whose directory it is. CRIU forks to try out what the kernel can do, and what it forks sleeps
// until CRIU kills it; the runtime waits for that, too, as it has CRIU's socket.
func EndOrphans(dir string) {
	var at unix.Stat_t
	if unix.Stat(dir, &at) != nil {
		return
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !hasTurn(pid, &at) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if orphaned(pid, &at) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// orphaned tells whether a process has the turn by a fork alone, of a parent that is gone. One
// that is about to become the runtime, of a driver whose turn has another number, leads its group.
func orphaned(pid int, dir *unix.Stat_t) bool {
	group, err := unix.Getpgid(pid)
	return err == nil && group != pid && hasTurn(pid, dir) && !procfs.Executed(pid) && !hasTurn(procfs.Parent(pid), dir)
}

// hasTurn tells whether a process has a container's directory open where CRIU has the turn.
func hasTurn(pid int, dir *unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/fd/"+strconv.Itoa(TurnFD), &st)
	return err == nil && st.Dev == dir.Dev && st.Ino == dir.Ino
}

// Begun tells whether there are images that have not taken the place of dir: while a
// checkpoint is made, and after it if nobody was left to see to its end.
func Begun(dir string) bool {
	_, err := os.Lstat(dir + Unfinished)
	return err == nil
}

// Discard takes those away. The caller has the turn, and the container is not frozen.
func Discard(dir string) error { return rootfs.RemoveTree(dir + Unfinished) }

// Anew takes from CRIU's directory what tells of a completed checkpoint, so that Complete is
// of the next one. The caller has the turn.
func Anew(work string) error {
	if err := unix.Unlink(work + "/" + statistics); err != unix.ENOENT {
		return err
	}
	return nil
}

// Complete tells whether a checkpoint was completed of which nobody has told: the
// images are those of dir, or will be, and work is CRIU's directory.
func Complete(dir, work string) bool {
	if _, err := os.Lstat(work + "/" + statistics); err != nil {
		return false
	}
	for _, place := range []string{dir + Unfinished, dir} {
		if _, err := os.Lstat(place + "/inventory.img"); err == nil {
			return true
		}
	}
	return false
}

// Keep puts the images that were written onto the disk, and then into the place
// of dir. It may be done again.
func Keep(dir string) error {
	written := dir + Unfinished
	if err := syncFiles(written); err != nil {
		if os.IsNotExist(err) {
			return rootfs.RemoveTree(dir + replaced) // it was done
		}
		return err
	}
	if err := rootfs.RemoveTree(dir + replaced); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, written, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	switch err {
	case nil: // at once: who does this again must not take those for the new ones
		err = unix.Rename(written, dir+replaced)
	case unix.ENOENT:
		err = unix.Rename(written, dir)
	}
	if err == nil {
		err = syncFile(path.Dir(dir))
	}
	if err != nil {
		return err
	}
	return rootfs.RemoveTree(dir + replaced)
}

// syncFiles writes the files of a directory, and itself, to the disk.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue // the link to the images before
		}
		if err := syncFile(dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return syncFile(dir)
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// explain adds CRIU's last error to what the runtime has said: that is mostly
// that there was one.
func explain(f *wire.Failure, log string) {
	fd, err := unix.Open(log, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	data, _ := ctrinit.ReadAll(fd)
	why := ""
	for line := range strings.Lines(string(data)) {
		// (00.228579) Error (criu/files-reg.c:1790): Can't …
		_, text, ok := strings.Cut(line, ") Error (")
		if _, text, found := strings.Cut(text, "): "); ok && found && !strings.HasPrefix(text, "rlimit: ") && why == "" {
			why = strings.TrimSpace(text)
		}
	}
	if why != "" {
		f.Text += ": " + why
	}
}
