package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 5 * time.Second
	// acceptPause keeps a shortage of file descriptors from becoming a busy loop.
	acceptPause = 50 * time.Millisecond
)

// runForwarder joins a loopback port of this machine to an address inside a network namespace that has no route to it.
func runForwarder(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	listen := flags.String("listen", "", "loopback address and port to listen on")
	namespace := flags.String("netns", "", "path of the network namespace to connect from")
	target := flags.String("target", "", "IP address and port to connect to")
	if err := parseRequired(flags, args); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("--listen %s: only a loopback address may be offered", *listen)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		client, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintln(os.Stderr, "accept:", err)
			time.Sleep(acceptPause)
			continue
		}
		go func() {
			defer client.Close()
			server, err := dialIn(*namespace, *target)
			if err != nil {
				fmt.Fprintf(os.Stderr, "connect to %s: %v\n", *target, err)
				return
			}
			defer server.Close()
			join(client.(*net.TCPConn), server.(*net.TCPConn))
		}()
	}
}

// dialIn connects from inside a network namespace. A socket belongs to the namespace of the thread that made it, so
// the goroutine that dials keeps its thread to itself and takes it along when it ends.
func dialIn(namespace, target string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends this thread with the goroutine
		file, err := os.Open(namespace)
		if err != nil {
			results <- result{nil, err}
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			results <- result{nil, fmt.Errorf("setns %s: %w", namespace, err)}
			return
		}
		conn, err := net.DialTimeout("tcp", target, dialTimeout)
		results <- result{conn, err}
	}()
	r := <-results
	return r.conn, r.err
}

// join copies both ways until both sides have ended; each end of file is passed on as one.
func join(a, b *net.TCPConn) {
	var both sync.WaitGroup
	both.Add(2)
	half := func(to, from *net.TCPConn) {
		defer both.Done()
		if _, err := io.Copy(to, from); err != nil {
			// Half a broken connection is of no use to the other half.
			to.Close()
			from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	go half(a, b)
	go half(b, a)
	both.Wait()
}
