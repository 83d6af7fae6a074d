package engine

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/cove-engine/cove"
)

// ofUnit tells that who watches the container is to be the main process of a unit
// that is being started. (Process 1 has no siblings.)
func (l *launch) ofUnit() bool {
	s := &l.c.Spec
	return (s.SDNotify == "conmon" || s.SDNotify == "healthy") && s.SDNotifySocket != "" && os.Getenv("NOTIFY_SOCKET") == s.SDNotifySocket && os.Getpid() != 1
}

// announce tells the service manager who watches the container, and, unless
// that is to wait for its health, that it is ready: sd_notify(3). As with
// podman it is no reason to fail that nobody listens.
func (l *launch) announce() (warnings []string) {
	text := "MAINPID=" + strconv.Itoa(l.monitorPID)
	switch l.c.Spec.SDNotify {
	case "conmon":
		text += "\nREADY=1"
	case "healthy":
	default:
		return nil
	}
	return l.notify(text)
}

func (l *launch) notify(text string) (warnings []string) {
	name := l.c.Spec.SDNotifySocket
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(text))
		_ = conn.Close()
	}
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("notify %s: %v", name, err))
	}
	return warnings
}

// announceHealthy waits for the container's health if that is what is to be
// told. One that ends before has failed to start, unless it goes with its end
// (--rm): podman finds none to complain of then.
func (l *launch) announceHealthy(ctx context.Context) error {
	if l.c.Spec.SDNotify != "healthy" {
		return nil
	}
	code, err := l.e.Wait(ctx, l.c.ID, WaitOptions{Conditions: []string{"healthy", string(cove.Exited)}})
	if l.c.Spec.Remove && (cove.Is(err, cove.NotFound) || err == nil && code >= 0) {
		return nil
	}
	if err != nil {
		return err
	}
	if code >= 0 { // of its end
		return cove.E("wait for health of container", l.c.Name, cove.WrongStatus, fmt.Errorf("it has ended with exit code %d", code))
	}
	l.notify("READY=1")
	return nil
}

// announceMeanwhile is announceHealthy for who follows the container meanwhile;
// done ends the waiting.
func (l *launch) announceMeanwhile(ctx context.Context) (done func()) {
	if l.c.Spec.SDNotify != "healthy" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { _ = l.announceHealthy(ctx) }()
	return cancel
}
