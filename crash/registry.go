package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// registry is where an image registry listens.
const registry = "127.0.0.1:5000"

// openRegistry starts one, with the image of several layers in it, where the
// program for it is installed.
func (s *scene) openRegistry() error {
	program, err := exec.LookPath("docker-registry")
	if s.podman || err != nil {
		return nil
	}
	conf := filepath.Join(s.work, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", filepath.Join(s.work, "registry"), registry)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(program, "serve", conf)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // a signal for us is not its
	if err := cmd.Start(); err != nil {
		return err
	}
	if r := s.run("pull", "-q", "oci:"+filepath.Join(s.work, "layout")); r.code != 0 {
		return fmt.Errorf("pull: %s", r)
	}
	var r result
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if r = s.run("push", "-q", "--tls-verify=false", s.layered, registry+"/layered"); r.code == 0 {
			break
		}
	}
	if r.code != 0 {
		return fmt.Errorf("push: %s", r)
	}
	if r := s.run("rmi", "-f", s.layered); r.code != 0 {
		return fmt.Errorf("rmi: %s", r)
	}
	s.registry = true
	return nil
}
