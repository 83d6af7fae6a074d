package ctrinit

import (
	"path"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/rootfs"
)

// makeWorkDir makes the working directory if the image promised one that it
// does not have.
func (p *process) makeWorkDir(root int) *wire.Failure {
	pr := &p.plan.Process
	if !pr.MakeCwd || pr.Cwd == "" || pr.Cwd == "/" {
		return nil
	}
	fd, err := rootfs.MakeDir(root, pr.Cwd)
	if err != nil {
		return wire.Fail("make working directory "+pr.Cwd, err)
	}
	_ = unix.Close(fd)
	return nil
}

// enterWorkDir changes to the working directory and makes sure that it lies
// inside the container's root: a descriptor of the host's, left open
// somewhere, could be named as one (CVE-2024-21626).
func (p *process) enterWorkDir() *wire.Failure {
	cwd := p.plan.Process.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if !path.IsAbs(cwd) {
		return &wire.Failure{Step: "enter working directory " + cwd, Text: "it is not absolute"}
	}
	if err := unix.Chdir(cwd); err != nil {
		f := wire.Fail("enter working directory "+cwd, err)
		f.NoFile = err == unix.ENOENT || err == unix.ENOTDIR
		return f
	}
	// getcwd(2): a directory outside the root is given as "(unreachable)…".
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return wire.Fail("enter working directory "+cwd, err)
	}
	if n == 0 || buf[0] != '/' {
		return &wire.Failure{Step: "enter working directory " + cwd, Text: "it is outside the container"}
	}
	return nil
}
