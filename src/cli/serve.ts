// lucid-node serve: the service.
import { main } from "../main.js";
import { type Command, untilSignalled } from "./command.js";

export const serve: Command = {
  summary: "run the service; settings come from the environment, .env and CONFIG_FILE",
  usage: "lucid-node serve",
  run: () => main(untilSignalled()),
};
