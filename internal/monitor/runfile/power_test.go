package runfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// What is recorded for good in a file made anew is there after a power loss, be the
// directory new, too. The disk of that moment is what the loop device's file holds.
func TestRenewedOutlivesPower(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil || os.Geteuid() != 0 {
		t.Skip("makes and mounts a file system")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("needs a loop device: ", err)
	}
	// What it mounts is this thread's, and goes with it however the test ends.
	runtime.LockOSThread()
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	run := func(argv ...string) {
		t.Helper()
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	mount := func(image string) (dir string) {
		t.Helper()
		dir = t.TempDir()
		run("mount", "-o", "loop,commit=300", image, dir) // it writes nothing of its own accord meanwhile
		t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
		return dir
	}
	run("truncate", "-s", "32M", disk)
	run("mkfs.ext4", "-q", "-F", disk)
	root := mount(disk)
	dir := filepath.Join(root, "c")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	err := f.Write(&cove.Run{Generation: 1}, true)
	run("sync", "-f", root)
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), f.Renew(dir, &cove.Run{Generation: 2}, true))
	}
	if err != nil {
		t.Fatal(err)
	}
	run("cp", disk, disk+".then")
	if got := generation(t, filepath.Join(mount(disk+".then"), "c")); got != 2 {
		t.Errorf("generation %d, want 2", got)
	}
}
