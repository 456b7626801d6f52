"""Recorded games: conversion to shards, reading them, and the order of batches."""
