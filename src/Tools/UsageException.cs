namespace Tools;

/// <summary>The command line asks for something that cannot be. Its message is for the user.</summary>
internal sealed class UsageException(string message) : Exception(message);
