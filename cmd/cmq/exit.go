package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/config"
)

// Exit codes. They are part of the interface: scripts test them.
const (
	exitOK          = 0
	exitFailure     = 1   // refused by the service, or failed
	exitUsage       = 2   // wrong command, flag or configuration; nothing was done. Doctor: could not check
	exitNoMessage   = 3   // receive: there was no message
	exitUnreachable = 4   // no answer from the endpoint
	exitInterrupted = 130 // ended by Ctrl-C or a second signal
)

const exitHelp = `Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 no message,
4 endpoint not reachable, 130 interrupted.`

// usageError is a mistake in the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// uncheckedError says that cmq doctor could not look at anything.
type uncheckedError struct{ error }

// Unwrap gives what was in the way.
func (e uncheckedError) Unwrap() error { return e.error }

// quietError is an exit code of a command that has said everything itself.
type quietError int

func (e quietError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func exitCode(err error) int {
	var (
		quiet    quietError
		unseen   uncheckedError
		usage    usageError
		problems config.Problems
		broken   *client.TransportError
		needs    *client.NeedsEndpointError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &quiet):
		return int(quiet)
	case errors.As(err, &usage), errors.As(err, &problems), errors.As(err, &unseen), errors.As(err, &needs):
		return exitUsage
	case errors.Is(err, client.ErrNoMessage):
		return exitNoMessage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &broken):
		return exitUnreachable
	}
	return exitFailure
}

// explain says what an error means and what to do about it, as far as that is known.
func explain(err error) string {
	var (
		broken *client.TransportError
		needs  *client.NeedsEndpointError
	)
	hint := ""
	switch {
	case errors.As(err, &needs):
		return fmt.Sprintf("%s goes over HTTP; add --endpoint http://HOST:PORT beside the tcp:// one", needs.Action)
	case errors.Is(err, client.ErrQueueNotExist):
		hint = "create the queue with: cmq queue create NAME"
	case errors.Is(err, client.ErrQueueExists):
		hint = "change it with: cmq queue set NAME; names that differ only in case are the same"
	case errors.Is(err, client.ErrTopicNotExist):
		hint = "create the topic with: cmq topic create NAME"
	case errors.Is(err, client.ErrTopicExists):
		hint = "change it with: cmq topic set NAME; names that differ only in case are the same"
	case errors.Is(err, client.ErrTopicInUse):
		hint = "see them with: cmq subscription list TOPIC; remove one with: cmq subscription delete TOPIC NAME"
	case errors.Is(err, client.ErrEndpoint):
		hint = "the server does not deliver to this address; its operator can allow ranges of private ones with push.allow, or an agent in its network delivers: --agent NAME"
	case errors.Is(err, client.ErrNobody):
		hint = "the message is not stored; subscribe a queue with: cmq subscription create TOPIC NAME --queue QUEUE"
	case errors.Is(err, client.ErrNoMatch):
		hint = "the message is not stored; see what subscriptions want with: cmq subscription show TOPIC NAME"
	case errors.Is(err, client.ErrSubscribed):
		hint = "change it with: cmq subscription set TOPIC NAME; names that differ only in case are the same"
	case errors.Is(err, client.ErrNotSubscribed):
		hint = "see what there is with: cmq subscription list TOPIC"
	case errors.Is(err, client.ErrKeyUnknown):
		hint = "the secret id is not one of this cluster's; see --secret-id, CMQ_SECRET_ID or cmq context list"
	case errors.Is(err, client.ErrSignature):
		hint = "the secret key does not belong to the secret id, or this machine's clock is wrong"
	case errors.Is(err, client.ErrHandleInvalid):
		hint = "the lock has ended or the message was deleted before; receive it again"
	case errors.As(err, &broken) && !broken.Sent:
		hint = "is the server running there? start one with: cmq dev"
	}
	if hint == "" {
		return err.Error()
	}
	return err.Error() + "\n" + hint
}

// jsonError is what -o json prints for a failure.
type jsonError struct {
	Error struct {
		Exit      int    `json:"exit"`
		Message   string `json:"message"`
		Code      int    `json:"code,omitempty"`
		Module    int    `json:"module,omitempty"`
		RequestID string `json:"requestId,omitempty"`
	} `json:"error"`
}

// report prints a failure: for people on stderr, and as JSON on stdout if JSON was asked for.
func report(stdout, stderr io.Writer, asJSON bool, err error) {
	if errors.As(err, new(quietError)) {
		return
	}
	text := explain(err)
	fmt.Fprintln(stderr, "cmq: "+strings.ReplaceAll(text, "\n", "\n     "))
	if !asJSON {
		return
	}
	var j jsonError
	j.Error.Exit, j.Error.Message = exitCode(err), text
	var refused *client.Error
	if errors.As(err, &refused) {
		j.Error.Code, j.Error.Module, j.Error.RequestID = refused.Code, refused.Module, refused.RequestID
	}
	json.NewEncoder(stdout).Encode(j) // stdout may be closed; stderr has the text already
}
