// Package registrytest runs an image registry on loopback for tests: the
// docker-registry program of the distribution project.
package registrytest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say what kind of registry to run.
type Options struct {
	TLS      bool
	User     string // with Password: htpasswd authentication
	Password string
}

// Registry is a running registry.
type Registry struct {
	Addr    string // host:port
	Storage string // its directory: docker/registry/v2/blobs/sha256/…
	// CertDir holds ca.crt, the registry's own CA, in the layout that
	// --cert-dir takes; empty without TLS.
	CertDir string
	// Conf is a registries.conf that marks a registry without TLS as
	// insecure and names no registry to search.
	Conf string
	stop func()
}

// Stop ends the registry before the test does.
func (r *Registry) Stop() { r.stop() }

// Start runs a registry until the test ends. The test is skipped where the
// program is not installed.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("needs docker-registry: ", err)
	}
	dir := t.TempDir()
	r := &Registry{Storage: filepath.Join(dir, "storage"), Conf: filepath.Join(dir, "registries.conf")}
	conf := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n", r.Storage)
	client := &http.Client{Timeout: 10 * time.Second}
	scheme := "http"
	if o.TLS {
		scheme = "https"
		r.CertDir = filepath.Join(dir, "certs")
		pool := certificates(t, r.CertDir, dir)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		conf += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	}
	if o.User != "" {
		passwords := filepath.Join(dir, "htpasswd")
		cmd := exec.Command("htpasswd", "-Bbn", o.User, o.Password)
		out, err := cmd.Output()
		if err != nil {
			t.Skip("needs htpasswd (Debian: apache2-utils): ", err)
		}
		write(t, passwords, out)
		conf += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", passwords)
	}
	write(t, filepath.Join(dir, "registry.yml"), []byte(conf))
	said := &words{}
	cmd := exec.Command(program, "serve", filepath.Join(dir, "registry.yml"))
	cmd.Stderr, cmd.Stdout = said, said
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		// It dies with the thread that has started it, which no other goroutine may end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	r.stop = func() { _ = cmd.Process.Kill(); <-done }
	t.Cleanup(r.stop)

	var failed error
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if m := listening.FindStringSubmatch(said.String()); m != nil {
			r.Addr = m[1]
			var resp *http.Response
			if resp, failed = client.Get(scheme + "://" + r.Addr + "/v2/"); failed == nil {
				resp.Body.Close()
				break
			}
		}
		select {
		case <-done:
			t.Fatalf("docker-registry ended: %s", said)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not answer: %v\n%s", failed, said)
		}
	}
	write(t, r.Conf, fmt.Appendf(nil, "[[registry]]\nlocation = %q\ninsecure = %v\n", r.Addr, !o.TLS))
	return r
}

// listening is how the program tells which port the kernel has chosen.
var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// words are what a program says, from its beginning.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer // under mu
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// certificates makes a CA (in certDir) and the server's certificate (in dir).
func certificates(t testing.TB, certDir, dir string) *x509.CertPool {
	t.Helper()
	if err := os.MkdirAll(certDir, 0o755); err != nil {
		t.Fatal(err)
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	sign := func(c, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test registry"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	caKey, serverKey := newKey(), newKey()
	caDER := sign(ca, ca, caKey, caKey)
	serverDER := sign(server, ca, serverKey, caKey)
	keyDER, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	write(t, filepath.Join(certDir, "ca.crt"), block("CERTIFICATE", caDER))
	write(t, filepath.Join(dir, "server.crt"), block("CERTIFICATE", serverDER))
	write(t, filepath.Join(dir, "server.key"), block("EC PRIVATE KEY", keyDER))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(block("CERTIFICATE", caDER))
	return pool
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
