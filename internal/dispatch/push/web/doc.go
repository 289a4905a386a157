// Package web delivers messages to endpoints that speak HTTP. It makes the request, byte for byte as the published
// service does, and sees to it that no endpoint costs more than a moment and a few kilobytes, whatever it answers.
//
// It decides nothing about when and how often; push does. Addresses are guard's business.
package web
